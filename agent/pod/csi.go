package pod

import (
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
)

// CSIVolume is a volume of a CSI driver that a pod is to have: Inline or
// Persistent says which, the other is nil.
type CSIVolume struct {
	Pod *v1.Pod
	// Name is that of the persistent volume, or else the one in the pod.
	Name       string
	Inline     *v1.CSIVolumeSource
	Persistent *v1.PersistentVolume
	// ReadOnly is for volumes that no container of the pod may write to.
	ReadOnly bool
	// Target is where the driver is to mount the volume.
	Target string
	// Token makes a token of the pod's service account for an audience, "" for the
	// API server's, that lives for so many seconds, nil for the API server's choice.
	Token func(audience string, seconds *int64) (authentication.TokenRequestStatus, error)
}
