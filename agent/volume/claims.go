package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	corev1 "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/storage/ephemeral"
)

// Claims gives the objects behind persistent volume claims. Errors are those of
// the API server: they become part of what the pod's owner reads.
type Claims interface {
	PersistentVolumeClaim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error)
	PersistentVolume(ctx context.Context, name string) (*v1.PersistentVolume, error)
}

// claimProtection is the finalizer that keeps a claim while pods use it.
const claimProtection = "kubernetes.io/pvc-protection"

// lookUpClaim finds the persistent volume of a volume that is one through a
// claim. Once bound it stays, so that is remembered.
func (m *Manager) lookUpClaim(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume) error {
	name := claimName(p, spec)
	if name == "" || m.Claims == nil || e.known.claim(spec.Name) != nil {
		return nil
	}
	pv, err := m.claimed(ctx, p, name, spec.Ephemeral != nil)
	if err != nil {
		return err
	}
	if err := checkMode(p, spec.Name, pv); err != nil {
		return err
	}
	e.known.keepClaim(spec.Name, pv)
	return nil
}

// claimName is the claim that a volume is of, "" if it is of none.
func claimName(p *v1.Pod, spec *v1.Volume) string {
	switch {
	case spec.PersistentVolumeClaim != nil:
		return spec.PersistentVolumeClaim.ClaimName
	case spec.Ephemeral != nil:
		return ephemeral.VolumeClaimName(p, spec)
	}
	return ""
}

func isReadOnlyClaim(s *v1.VolumeSource) bool {
	return s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ReadOnly
}

// claimed returns the persistent volume that a claim is bound to.
func (m *Manager) claimed(ctx context.Context, p *v1.Pod, name string, isEphemeral bool) (*v1.PersistentVolume, error) {
	failed := func(err error) error {
		return fmt.Errorf("error processing PVC %s/%s: %w", p.Namespace, name, err)
	}
	claim, err := m.Claims.PersistentVolumeClaim(ctx, p.Namespace, name)
	switch {
	case err != nil:
		return nil, failed(fmt.Errorf("failed to fetch PVC from API server: %w", err))
	case claim.DeletionTimestamp != nil && !slices.Contains(claim.Finalizers, claimProtection):
		return nil, failed(errors.New("PVC is being deleted"))
	case claim.Status.Phase != v1.ClaimBound:
		return nil, failed(errors.New("PVC is not bound"))
	case claim.Spec.VolumeName == "":
		return nil, failed(errors.New("PVC has empty pvc.Spec.VolumeName"))
	}
	if isEphemeral {
		if err := ephemeral.VolumeIsForPod(p, claim); err != nil {
			return nil, err
		}
	}
	pv, err := m.Claims.PersistentVolume(ctx, claim.Spec.VolumeName)
	switch {
	case err != nil:
		return nil, failed(fmt.Errorf("failed to fetch PV %s from API server: %w", claim.Spec.VolumeName, err))
	case pv.Spec.ClaimRef == nil:
		return nil, failed(fmt.Errorf("found PV object %s but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim", pv.Name))
	case pv.Spec.ClaimRef.UID != claim.UID:
		return nil, failed(fmt.Errorf("found PV object %s but its pv.Spec.ClaimRef.UID %s does not point to claim.UID %s",
			pv.Name, pv.Spec.ClaimRef.UID, claim.UID))
	}
	return pv, nil
}

// checkMode refuses a persistent volume of another mode than its pod uses.
func checkMode(p *v1.Pod, volume string, pv *v1.PersistentVolume) error {
	mode := v1.PersistentVolumeFilesystem
	if pv.Spec.VolumeMode != nil {
		mode = *pv.Spec.VolumeMode
	}
	switch mounts, devices := uses(p, volume); {
	case mounts && mode != v1.PersistentVolumeFilesystem:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeMounts", volume, mode)
	case devices && mode != v1.PersistentVolumeBlock:
		return fmt.Errorf("volume %s has volumeMode %s, but is specified in volumeDevices", volume, mode)
	case devices:
		return fmt.Errorf("volume %s has volumeMode %s, which is not supported by this node", volume, mode)
	}
	return nil
}

// setClaimed says what a persistent volume is on this node, which may have CSI
// drivers.
func (v *Volume) setClaimed(pv *v1.PersistentVolume, readOnly, drivers bool, node *v1.Node) error {
	v.Name, v.ReadOnly = pv.Name, readOnly
	if affinity := pv.Spec.NodeAffinity; affinity != nil && affinity.Required != nil {
		matches, err := corev1.MatchNodeSelectorTerms(node, affinity.Required)
		if err == nil && !matches {
			err = errors.New("no matching NodeSelectorTerms")
		}
		if err != nil {
			return &stepError{err, "NodeAffinity check"}
		}
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.HostPath != nil:
		return v.setHostPath(s.HostPath)
	case s.Local != nil:
		v.Kind, v.Path = Local, s.Local.Path
		if v.Path == "" {
			return fmt.Errorf("LocalVolume volume %q path is empty", v.Name)
		}
		if hasBackstep(v.Path) {
			return fmt.Errorf("invalid path: %s must not contain '..'", v.Path)
		}
	case s.NFS != nil:
		v.setNFS(s.NFS, readOnly, pv.Spec.MountOptions)
	case s.CSI != nil && drivers:
		v.Kind = CSIDriver
	default:
		v.Kind, v.Type = Other, sourceType(s)
	}
	return nil
}
