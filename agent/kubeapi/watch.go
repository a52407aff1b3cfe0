package kubeapi

import (
	"context"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// PodHandler is told of pods, one call at a time. The objects must not be
// changed.
type PodHandler interface {
	// PodSet tells of a pod that is new or has changed.
	PodSet(p *v1.Pod)
	// PodDeleted gives the last known state of a pod that is gone. It comes
	// before PodSet of another pod of the same name.
	PodDeleted(p *v1.Pod)
	// PodsSynced tells that every pod there was at the start has been set.
	PodsSynced()
}

// NodeHandler is told of one Node object, one call at a time.
type NodeHandler interface {
	NodeSet(n *v1.Node)
	NodeDeleted()
}

// Watches follows objects until ctx ends, whatever becomes of the connection
// meanwhile. *Client opens watches of its own, as a kubelet does; the simulator
// can feed many agents from one.
type Watches interface {
	WatchPods(ctx context.Context, nodeName string, h PodHandler)
	WatchNode(ctx context.Context, nodeName string, h NodeHandler)
	WatchServices(ctx context.Context)
	// Services returns what WatchServices knows for the containers of pods in a
	// namespace; see Services.For.
	Services(namespace string) ([]*v1.Service, error)
}

var _ Watches = (*Client)(nil)

// WatchPods follows the pods that are bound to a node.
func (c *Client) WatchPods(ctx context.Context, nodeName string, h PodHandler) {
	lw := listWatch(c.core.Pods(metav1.NamespaceAll).List, c.core.Pods(metav1.NamespaceAll).Watch,
		fields.OneTermEqualSelector("spec.nodeName", nodeName))
	FollowPods(ctx, cache.ToListWatcherWithWatchListSemantics(lw, c.core.RESTClient()), h)
}

// FollowPods follows the pods that lw lists and watches.
func FollowPods(ctx context.Context, lw cache.ListerWatcher, h PodHandler) {
	h = &oneAtATime{handler: h}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw,
		ObjectType:    &v1.Pod{},
		Transform:     dropManagedFields,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { h.PodSet(obj.(*v1.Pod)) },
			UpdateFunc: func(before, obj any) {
				old, p := before.(*v1.Pod), obj.(*v1.Pod)
				if old.UID != p.UID {
					// Deleted and made again while nobody watched.
					h.PodDeleted(old)
				}
				h.PodSet(p)
			},
			DeleteFunc: func(obj any) { h.PodDeleted(last(obj).(*v1.Pod)) },
		},
	})
	follow(ctx, informer, h.PodsSynced)
}

// oneAtATime keeps PodsSynced, which comes from another goroutine, from running
// beside the first call after it.
type oneAtATime struct {
	mu      sync.Mutex
	handler PodHandler
}

func (o *oneAtATime) PodSet(p *v1.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler.PodSet(p)
}

func (o *oneAtATime) PodDeleted(p *v1.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler.PodDeleted(p)
}

func (o *oneAtATime) PodsSynced() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler.PodsSynced()
}

// WatchNode follows one Node object.
func (c *Client) WatchNode(ctx context.Context, nodeName string, h NodeHandler) {
	lw := listWatch(c.core.Nodes().List, c.core.Nodes().Watch, fields.OneTermEqualSelector("metadata.name", nodeName))
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, c.core.RESTClient()),
		ObjectType:    &v1.Node{},
		Transform:     dropManagedFields,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { h.NodeSet(obj.(*v1.Node)) },
			UpdateFunc: func(_, obj any) { h.NodeSet(obj.(*v1.Node)) },
			DeleteFunc: func(any) { h.NodeDeleted() },
		},
	})
	follow(ctx, informer, func() {})
}

// follow runs an informer until ctx ends and says when its first list has been
// handed on.
func follow(ctx context.Context, informer cache.Controller, synced func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.RunWithContext(ctx)
	}()
	select {
	case <-informer.HasSyncedChecker().Done():
		synced()
	case <-ctx.Done():
	}
	<-done
}

func listWatch[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error),
	open func(context.Context, metav1.ListOptions) (watch.Interface, error), selector fields.Selector) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector.String()
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector.String()
			return open(ctx, o)
		},
	}
}

// endingClock is a clock whose waits end with a context. A Reflector does not
// look at its own while it waits for an API server that refuses connections.
type endingClock struct {
	clock.RealClock
	ctx context.Context
}

// After returns a channel that is sent to after d, or when the context ends.
func (c endingClock) After(d time.Duration) <-chan time.Time {
	over := make(chan time.Time, 1)
	ctx, cancel := context.WithTimeout(c.ctx, d)
	context.AfterFunc(ctx, func() {
		cancel()
		over <- time.Now()
	})
	return over
}

// last is the newest known state of a deleted object, also when its deletion
// was only noticed by a new list.
func last(obj any) any {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return obj
}

// dropManagedFields leaves out what no node needs and what costs the most.
func dropManagedFields(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}
