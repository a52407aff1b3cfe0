package node

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/sleep"
)

// Delays between two tries to register, the kubelet's.
const (
	firstRegisterRetry = 100 * time.Millisecond
	lastRegisterRetry  = 7 * time.Second
)

// Old names of the labels for operating system and architecture, which the
// kubelet still sets.
const (
	labelOS   = "beta.kubernetes.io/os"
	labelArch = "beta.kubernetes.io/arch"
)

// attachDetachAnnotation lets the controllers attach volumes to this node.
const attachDetachAnnotation = "volumes.kubernetes.io/controller-managed-attach-detach"

// uninitializedTaint keeps pods away until a cloud controller manager has seen
// to the node; providedIPAnnotation tells it the address to look for.
const (
	uninitializedTaint   = "node.cloudprovider.kubernetes.io/uninitialized"
	providedIPAnnotation = "alpha.kubernetes.io/provided-node-ip"
)

// register makes the Node exist, for as long as it takes. It reports false when
// ctx ended first.
func (m *Manager) register(ctx context.Context) bool {
	delay := firstRegisterRetry
	described := false
	for ctx.Err() == nil {
		m.turned.Store(time.Now().UnixNano())
		err := m.tryRegister(ctx)
		if !described && m.AnyNode() != nil {
			described = true
			close(m.described)
		}
		if err == nil {
			return true
		}
		if ctx.Err() == nil {
			m.Log.Warn("Could not register the node", "err", err, "retry", delay)
		}
		sleep.For(ctx, delay)
		delay = min(2*delay, lastRegisterRetry)
	}
	return false
}

func (m *Manager) tryRegister(ctx context.Context) error {
	wanted, err := m.describe(ctx)
	if err != nil {
		return err
	}
	if !m.config.RegisterNode {
		n, err := m.API.GetNode(ctx, m.config.Name)
		if err == nil {
			m.NodeSet(n)
		}
		return err
	}
	created, err := m.API.CreateNode(ctx, wanted)
	if err == nil {
		m.NodeSet(created)
		return nil
	}
	// A node that may not create its object may still have one.
	if !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) {
		return err
	}
	existing, getErr := m.API.GetNode(ctx, m.config.Name)
	switch {
	case getErr == nil:
		return m.reconcile(ctx, existing, wanted)
	case apierrors.IsForbidden(err):
		return err
	}
	return getErr
}

// reconciled are the labels that an existing Node is given anew. All others are
// the administrator's by then, as are its taints and its spec.
var reconciled = []string{
	v1.LabelHostname, v1.LabelOSStable, v1.LabelArchStable, labelOS, labelArch,
	v1.LabelTopologyZone, v1.LabelTopologyRegion, v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion,
	v1.LabelInstanceTypeStable, v1.LabelInstanceType,
}

// reconcile brings the labels that tell of the machine, and our annotation, of
// an existing Node to what they are to be.
func (m *Manager) reconcile(ctx context.Context, existing, wanted *v1.Node) error {
	next := existing.DeepCopy()
	if next.Labels == nil {
		next.Labels = map[string]string{}
	}
	for _, key := range reconciled {
		if value := wanted.Labels[key]; value != "" {
			next.Labels[key] = value
		}
	}
	if next.Annotations == nil {
		next.Annotations = map[string]string{}
	}
	maps.Copy(next.Annotations, wanted.Annotations)
	if apiequality.Semantic.DeepEqual(existing.ObjectMeta, next.ObjectMeta) {
		m.NodeSet(existing)
		return nil
	}
	patched, err := m.API.PatchNode(ctx, existing, next)
	if err == nil {
		m.NodeSet(patched)
	}
	return err
}

// initial is the Node as it is created: not ready yet.
func (m *Manager) initial(ctx context.Context) (*v1.Node, error) {
	labels := map[string]string{
		v1.LabelHostname:   m.config.Name,
		v1.LabelOSStable:   runtime.GOOS,
		v1.LabelArchStable: runtime.GOARCH,
		labelOS:            runtime.GOOS,
		labelArch:          runtime.GOARCH,
	}
	maps.Copy(labels, m.config.Labels)
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        m.config.Name,
			Labels:      labels,
			Annotations: map[string]string{attachDetachAnnotation: "true"},
		},
		Spec: v1.NodeSpec{ProviderID: m.config.ProviderID, Taints: slices.Clone(m.config.Taints)},
	}
	if m.config.ExternalCloudProvider {
		n.Spec.Taints = append(n.Spec.Taints, v1.Taint{Key: uninitializedTaint, Value: "true", Effect: v1.TaintEffectNoSchedule})
	}
	if err := m.setStatus(ctx, n); err != nil {
		return nil, err
	}
	return n, nil
}
