package kubeapi

import (
	"context"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PersistentVolumeClaim returns a claim. The Node authorizer permits it for those
// that the node's pods refer to. Errors are the API server's own: pods' owners
// read them.
func (c *Client) PersistentVolumeClaim(ctx context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	return c.core.PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
}

// PersistentVolume returns a persistent volume. The Node authorizer permits it
// for those that claims of the node's pods are bound to. Errors are the API
// server's own.
func (c *Client) PersistentVolume(ctx context.Context, name string) (*v1.PersistentVolume, error) {
	return c.core.PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
}
