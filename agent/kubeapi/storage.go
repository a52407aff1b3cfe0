package kubeapi

import (
	"context"
	"fmt"

	certificates "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
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

// StorageSecret returns a secret that a CSI driver is to be given. The Node
// authorizer permits it for those that the node's pods, and the persistent
// volumes behind their claims, refer to. Errors are the API server's own.
func (c *Client) StorageSecret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	return c.core.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
}

// ClusterTrustBundles returns the cluster's trust anchors; from the API server's
// cache, which is cheap. Errors are the API server's own.
func (c *Client) ClusterTrustBundles(ctx context.Context) ([]certificates.ClusterTrustBundle, error) {
	list, err := c.certificates.ClusterTrustBundles().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// CSIDriver returns what the cluster knows of a CSI driver; from the API server's
// cache, which is cheap. Errors are the API server's own.
func (c *Client) CSIDriver(ctx context.Context, name string) (*storage.CSIDriver, error) {
	return c.storage.CSIDrivers().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
}

// VolumeAttachment returns an attachment. The Node authorizer permits it for
// those to the node. Errors are the API server's own.
func (c *Client) VolumeAttachment(ctx context.Context, name string) (*storage.VolumeAttachment, error) {
	return c.storage.VolumeAttachments().Get(ctx, name, metav1.GetOptions{})
}

// CSINode returns the CSI drivers of a node.
func (c *Client) CSINode(ctx context.Context, name string) (*storage.CSINode, error) {
	n, err := c.storage.CSINodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting CSINode %s: %w", name, err)
	}
	return n, nil
}

// CreateCSINode creates the object of a node's CSI drivers.
func (c *Client) CreateCSINode(ctx context.Context, n *storage.CSINode) (*storage.CSINode, error) {
	created, err := c.storage.CSINodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating CSINode %s: %w", n.Name, err)
	}
	return created, nil
}

// UpdateCSINode writes a node's CSI drivers; a Conflict if somebody else has
// since it was read.
func (c *Client) UpdateCSINode(ctx context.Context, n *storage.CSINode) (*storage.CSINode, error) {
	updated, err := c.storage.CSINodes().Update(ctx, n, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("updating CSINode %s: %w", n.Name, err)
	}
	return updated, nil
}

// DeleteCSINode deletes the object of a node's CSI drivers.
func (c *Client) DeleteCSINode(ctx context.Context, name string) error {
	if err := c.storage.CSINodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("deleting CSINode %s: %w", name, err)
	}
	return nil
}

// CurrentNode returns the Node object as it is at this moment, which GetNode does
// not promise.
func (c *Client) CurrentNode(ctx context.Context, name string) (*v1.Node, error) {
	n, err := c.beat.Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting node %s: %w", name, err)
	}
	return n, nil
}
