package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

// Claims gives the objects behind persistent volume claims.
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
	if name == "" || m.Claims == nil || e.known.claims[spec.Name] != nil {
		return nil
	}
	pv, err := m.claimed(ctx, p, name, spec.Ephemeral != nil)
	if err != nil {
		return fmt.Errorf("error processing PVC %s/%s: %w", p.Namespace, name, err)
	}
	put(&e.known.claims, spec.Name, pv)
	return nil
}

// claimName is the claim that a volume is of, "" if it is of none.
func claimName(p *v1.Pod, spec *v1.Volume) string {
	switch {
	case spec.PersistentVolumeClaim != nil:
		return spec.PersistentVolumeClaim.ClaimName
	case spec.Ephemeral != nil:
		return p.Name + "-" + spec.Name
	}
	return ""
}

func isReadOnlyClaim(s *v1.VolumeSource) bool {
	return s.PersistentVolumeClaim != nil && s.PersistentVolumeClaim.ReadOnly
}

func (m *Manager) claimed(ctx context.Context, p *v1.Pod, name string, ephemeral bool) (*v1.PersistentVolume, error) {
	claim, err := m.Claims.PersistentVolumeClaim(ctx, p.Namespace, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("failed to fetch PVC from API server: %w", err)
	case claim.DeletionTimestamp != nil && !slices.Contains(claim.Finalizers, claimProtection):
		return nil, errors.New("PVC is being deleted")
	case claim.Status.Phase != v1.ClaimBound || claim.Spec.VolumeName == "":
		return nil, errors.New("PVC is not bound")
	case ephemeral && !metav1.IsControlledBy(claim, p):
		return nil, fmt.Errorf("PVC was not created for pod %s (pod is not owner)", pod.FullName(p))
	}
	pv, err := m.Claims.PersistentVolume(ctx, claim.Spec.VolumeName)
	switch {
	case err != nil:
		return nil, fmt.Errorf("failed to fetch PV %s from API server: %w", claim.Spec.VolumeName, err)
	case pv.Spec.ClaimRef == nil || pv.Spec.ClaimRef.UID != claim.UID:
		return nil, fmt.Errorf("PV %s is not bound to the claim", pv.Name)
	}
	return pv, nil
}

// setClaimed says what a persistent volume is on this node.
func (v *Volume) setClaimed(pv *v1.PersistentVolume, readOnly bool) error {
	v.Name, v.ReadOnly = pv.Name, readOnly
	if mode := pv.Spec.VolumeMode; mode != nil && *mode != v1.PersistentVolumeFilesystem {
		return fmt.Errorf("unsupported volume mode %q", *mode)
	}
	switch s := &pv.Spec.PersistentVolumeSource; {
	case s.HostPath != nil:
		return v.setHostPath(s.HostPath)
	case s.Local != nil:
		v.Kind, v.Path = Local, s.Local.Path
		if v.Path == "" || hasBackstep(v.Path) {
			return fmt.Errorf("invalid path of a local volume: %q", v.Path)
		}
	default:
		v.Kind, v.Type = Other, sourceType(s)
	}
	return nil
}
