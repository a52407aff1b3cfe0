package volume

import (
	"context"
	"fmt"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

// CSI has the volumes of CSI drivers.
type CSI interface {
	// Publish has a volume mounted, again if it is. It reports whether what is in
	// the volume is still to be given to the pod's group. An error may have a method
	// Step, the name of the step that failed if it is another than SetUp, or a method
	// Unattached if the volume was not attached in time.
	Publish(ctx context.Context, v *pod.CSIVolume) (giveGroup bool, err error)
	// Unpublish has all volumes of a pod unmounted.
	Unpublish(ctx context.Context, uid pod.UID) error
	// Republishes reports whether the volume's driver wants Publish to be called
	// again and again.
	Republishes(ctx context.Context, inline *v1.CSIVolumeSource, pv *v1.PersistentVolume) bool
}

// publish has a volume's driver mount it.
func (m *Manager) publish(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume, v *Volume) error {
	target, err := m.Store.HostPath(v, SubPath{})
	if err != nil {
		return err
	}
	giveGroup, err := m.CSI.Publish(ctx, &pod.CSIVolume{
		Pod: p, Name: v.Name, Inline: spec.CSI, Persistent: e.known.claim(spec.Name), ReadOnly: v.ReadOnly, Target: target,
		Token: func(audience string, seconds *int64) (authentication.TokenRequestStatus, error) {
			b := &builder{Manager: m, ctx: ctx, entry: e, pod: p}
			t, err := b.current(&v1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: seconds})
			if err != nil {
				return authentication.TokenRequestStatus{}, err
			}
			return authentication.TokenRequestStatus{Token: t.value, ExpirationTimestamp: metav1.NewTime(t.expires)}, nil
		},
	})
	if err == nil && !giveGroup {
		v.FSGroup = nil
	}
	return err
}

// republish has a volume's driver called again, if it wants to be.
func (m *Manager) republish(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume) error {
	if !m.CSI.Republishes(ctx, spec.CSI, e.known.claim(spec.Name)) {
		return nil
	}
	v, err := m.volume(e, p, spec)
	if err == nil {
		err = m.publish(ctx, e, p, spec, v)
	}
	if err != nil {
		return failedStep(v.Name, err)
	}
	return nil
}

// unpublish has the drivers unmount a pod's volumes. What was bound from below them
// would keep them mounted, and goes first.
func (m *Manager) unpublish(ctx context.Context, uid pod.UID) error {
	if m.CSI == nil {
		return nil
	}
	if err := m.Store.UnmountSubPaths(uid); err != nil {
		return fmt.Errorf("unmounting subpaths: %w", err)
	}
	return m.CSI.Unpublish(ctx, uid)
}

// isPublished reports whether a volume of a mounted pod is one that a CSI driver
// has mounted.
func (m *Manager) isPublished(e *entry, spec *v1.Volume) bool {
	if m.CSI == nil {
		return false
	}
	pv := e.known.claim(spec.Name)
	return spec.CSI != nil || pv != nil && pv.Spec.CSI != nil
}
