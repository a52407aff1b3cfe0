package kubeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	authentication "k8s.io/api/authentication/v1"
	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/component-helpers/apimachinery/lease"
	nodeutil "k8s.io/component-helpers/node/util"
	"k8s.io/utils/clock"
)

// GetPod returns the pod as the API server has it now.
func (c *Client) GetPod(ctx context.Context, namespace, name string) (*v1.Pod, error) {
	p, err := c.core.Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting pod %s/%s: %w", namespace, name, err)
	}
	return p, nil
}

// AwaitTurn waits until one more call is within the bounds, or ctx ends. All calls
// but PatchPodStatus do so by themselves; what that is to write is better chosen when
// its turn has come.
func (c *Client) AwaitTurn(ctx context.Context) error {
	if err := c.bound.Wait(ctx); err != nil {
		return fmt.Errorf("waiting for a turn to call the API server: %w", err)
	}
	return nil
}

// PatchPodStatus brings the status of a pod from what it is in old to what it
// is to be. The patch carries the pod's UID, so that a pod of the same name
// made since is not touched (a Conflict error). Where nothing differs there is
// no call, and old is returned. AwaitTurn is to be called before.
func (c *Client) PatchPodStatus(ctx context.Context, old *v1.Pod, status v1.PodStatus) (*v1.Pod, error) {
	from, err := json.Marshal(v1.Pod{Status: old.Status})
	if err != nil {
		return nil, fmt.Errorf("encoding the old status of pod %s/%s: %w", old.Namespace, old.Name, err)
	}
	to, err := json.Marshal(v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: old.UID}, Status: status})
	if err != nil {
		return nil, fmt.Errorf("encoding the status of pod %s/%s: %w", old.Namespace, old.Name, err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(from, to, v1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("comparing statuses of pod %s/%s: %w", old.Namespace, old.Name, err)
	}
	if string(patch) == fmt.Sprintf(`{"metadata":{"uid":%q}}`, old.UID) {
		return old, nil
	}
	p, err := c.statuses.Pods(old.Namespace).Patch(ctx, old.Name, types.StrategicMergePatchType, patch,
		metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patching the status of pod %s/%s: %w", old.Namespace, old.Name, err)
	}
	return p, nil
}

// CreatePod creates a pod: a node may create mirror pods only.
func (c *Client) CreatePod(ctx context.Context, p *v1.Pod) (*v1.Pod, error) {
	created, err := c.core.Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return created, nil
}

// DeletePod deletes the pod if it still has the UID. With a grace of 0 s it is
// gone when the call returns.
func (c *Client) DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace time.Duration) error {
	seconds := int64(grace / time.Second)
	err := c.core.Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{
		GracePeriodSeconds: &seconds,
		Preconditions:      &metav1.Preconditions{UID: &uid},
	})
	if err != nil {
		return fmt.Errorf("deleting pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// CreateToken asks for a token of a service account, as the request's spec says.
// The Node authorizer permits it for a pod of the node that runs under the
// account, with the pod's UID in the request.
func (c *Client) CreateToken(ctx context.Context, namespace, serviceAccount string, r *authentication.TokenRequest) (*authentication.TokenRequest, error) {
	created, err := c.core.ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, r, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating a token of service account %s/%s: %w", namespace, serviceAccount, err)
	}
	return created, nil
}

// CreateNode creates the Node object.
func (c *Client) CreateNode(ctx context.Context, n *v1.Node) (*v1.Node, error) {
	created, err := c.beat.Nodes().Create(ctx, n, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("creating node %s: %w", n.Name, err)
	}
	return created, nil
}

// GetNode returns the Node object; from the API server's cache, which is cheap
// and recent enough for a status.
func (c *Client) GetNode(ctx context.Context, name string) (*v1.Node, error) {
	n, err := c.beat.Nodes().Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("getting node %s: %w", name, err)
	}
	return n, nil
}

// PatchNode brings labels, annotations and spec of a node from old to next.
func (c *Client) PatchNode(ctx context.Context, old, next *v1.Node) (*v1.Node, error) {
	from, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("encoding node %s: %w", old.Name, err)
	}
	to, err := json.Marshal(next)
	if err != nil {
		return nil, fmt.Errorf("encoding node %s: %w", old.Name, err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(from, to, v1.Node{})
	if err != nil {
		return nil, fmt.Errorf("comparing node %s: %w", old.Name, err)
	}
	n, err := c.beat.Nodes().Patch(ctx, old.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("patching node %s: %w", old.Name, err)
	}
	return n, nil
}

// PatchNodeStatus brings a node's status from old to next.
func (c *Client) PatchNodeStatus(ctx context.Context, old, next *v1.Node) (*v1.Node, error) {
	call := &nodeStatusCall{CoreV1Interface: c.beat, ctx: ctx}
	n, _, err := nodeutil.PatchNodeStatus(call, types.NodeName(old.Name), old, next)
	if call.err != nil {
		err = call.err
	}
	if err != nil {
		return nil, fmt.Errorf("patching the status of node %s: %w", old.Name, err)
	}
	return n, nil
}

// nodeStatusCall is one call of nodeutil.PatchNodeStatus, which gives the call
// no context, so that it would hold up the agent's end, and hides its error.
type nodeStatusCall struct {
	corev1.CoreV1Interface
	ctx context.Context
	err error
}

// Nodes returns a client that makes this call.
func (c *nodeStatusCall) Nodes() corev1.NodeInterface {
	return patchedNodes{c.CoreV1Interface.Nodes(), c}
}

type patchedNodes struct {
	corev1.NodeInterface
	call *nodeStatusCall
}

func (p patchedNodes) Patch(_ context.Context, name string, kind types.PatchType, patch []byte,
	o metav1.PatchOptions, subresources ...string) (*v1.Node, error) {
	n, err := p.NodeInterface.Patch(p.call.ctx, name, kind, patch, o, subresources...)
	p.call.err = err
	return n, err
}

// RunLease keeps the node's lease in the namespace kube-node-lease until ctx
// ends: it holds for duration and is renewed four times as often. failing is
// called after several renewals in a row have failed.
func (c *Client) RunLease(ctx context.Context, nodeName string, duration time.Duration, failing func()) {
	controller := lease.NewController(clock.RealClock{}, c.leases, nodeName, int32(duration/time.Second), failing,
		duration/4, nodeName, v1.NamespaceNodeLease, func(l *coordination.Lease) error {
			return c.ownLease(ctx, nodeName, l)
		})
	controller.Run(ctx)
}

// ownLease makes the Node the lease's owner, so that it goes with it.
func (c *Client) ownLease(ctx context.Context, nodeName string, l *coordination.Lease) error {
	if len(l.OwnerReferences) > 0 {
		return nil
	}
	n, err := c.GetNode(ctx, nodeName)
	if err != nil {
		return err
	}
	l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: nodeName, UID: n.UID}}
	return nil
}
