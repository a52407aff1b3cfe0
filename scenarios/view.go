package scenarios

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"
)

// view is the cluster as seen through watches: pods and nodes always, other
// kinds from when they are first asked for.
type view struct {
	// ctx is the life of the watches.
	ctx context.Context
	clients
	// observe is told of every change; it may be nil.
	observe func(before, now any)

	pods, nodes cache.Store
	// podsConverted and nodesConverted are for the one goroutine that looks.
	podsConverted, nodesConverted conversions

	mu sync.Mutex
	// written are the versions that steps have made of objects, until the watches
	// have caught up. Guarded by mu.
	written map[schema.GroupVersionResource]map[string]uint64
	others  map[schema.GroupVersionResource]cache.Store
	changed chan struct{}
	watches sync.WaitGroup
}

// newView returns once pods and nodes have been listed, or ctx has ended. life
// is that of the watches.
func newView(ctx, life context.Context, clients clients, observe func(before, now any)) (*view, error) {
	v := &view{ctx: life, clients: clients, observe: observe, changed: make(chan struct{}),
		written: map[schema.GroupVersionResource]map[string]uint64{}, others: map[schema.GroupVersionResource]cache.Store{}}
	client := clients.client
	var err error
	pods, nodes := client.CoreV1().Pods(""), client.CoreV1().Nodes()
	v.pods, err = v.follow(ctx, &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, o) },
		WatchFuncWithContext: pods.Watch,
	}, client, &v1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	v.nodes, err = v.follow(ctx, &cache.ListWatch{
		ListWithContextFunc:  func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return nodes.List(ctx, o) },
		WatchFuncWithContext: nodes.Watch,
	}, client, &v1.Node{})
	if err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	return v, nil
}

// follow starts a watch that goes on until the view's context ends, and returns
// once what there is has been listed. client is whose lists and watches they are.
func (v *view) follow(ctx context.Context, lw *cache.ListWatch, client any, kind runtime.Object) (cache.Store, error) {
	store, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, client),
		ObjectType:    kind,
		Transform: func(obj any) (any, error) {
			if o, err := meta.Accessor(obj); err == nil {
				o.SetManagedFields(nil)
			}
			return obj, nil
		},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(now any) { v.signal(nil, now) },
			UpdateFunc: v.signal,
			DeleteFunc: func(last any) { v.signal(last, nil) },
		},
	})
	v.watches.Go(func() { informer.RunWithContext(v.ctx) })
	select {
	case <-informer.HasSyncedChecker().Done():
		return store, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (v *view) signal(before, now any) {
	if v.observe != nil {
		if unknown, ok := before.(cache.DeletedFinalStateUnknown); ok {
			before = unknown.Obj
		}
		v.observe(before, now)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.changed)
	v.changed = make(chan struct{})
}

// next is closed when something changes from now on.
func (v *view) next() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changed
}

// store returns the watched objects of a kind, and starts the watch.
func (v *view) store(ctx context.Context, apiVersion, kind string) (cache.Store, error) {
	gvr, _, err := resolve(v.mapper, apiVersion, kind)
	if err != nil {
		return nil, err
	}
	v.mu.Lock()
	store := v.others[gvr]
	v.mu.Unlock()
	if store != nil {
		v.catchUp(ctx, gvr, store)
		return store, nil
	}
	resource := v.dynamic.Resource(gvr)
	store, err = v.follow(ctx, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			return resource.List(ctx, o)
		},
		WatchFuncWithContext: resource.Watch,
	}, v.dynamic, &unstructured.Unstructured{})
	if err != nil {
		return nil, fmt.Errorf("watching %s: %w", gvr.Resource, err)
	}
	v.mu.Lock()
	v.others[gvr] = store
	v.mu.Unlock()
	v.catchUp(ctx, gvr, store)
	return store, nil
}

// object returns one object of any kind, or nil.
func (v *view) object(ctx context.Context, t *Target) (map[string]any, error) {
	store, err := v.store(ctx, t.APIVersion, t.Kind)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{cmp.Or(t.Namespace, metav1.NamespaceDefault) + "/" + t.Name, t.Name} {
		if found, ok, _ := store.GetByKey(key); ok {
			return found.(*unstructured.Unstructured).Object, nil
		}
	}
	return nil, nil
}

// list returns the objects that a target names, for CEL.
func (v *view) list(ctx context.Context, t *ListTarget) ([]any, error) {
	store, err := v.store(ctx, t.APIVersion, t.Kind)
	if err != nil {
		return nil, err
	}
	selector, err := labels.Parse(t.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector %q: %w", t.Selector, err)
	}
	all := []any{}
	for _, o := range store.List() {
		u := o.(*unstructured.Unstructured)
		if (t.Namespace == "" || t.Namespace == u.GetNamespace()) && selector.Matches(labels.Set(u.GetLabels())) {
			all = append(all, u.Object)
		}
	}
	return all, nil
}

// podObjects and nodeObjects are pods and nodes as CEL sees them.
func (v *view) podObjects() ([]any, error)  { return v.podsConverted.of(v.pods.List()) }
func (v *view) nodeObjects() ([]any, error) { return v.nodesConverted.of(v.nodes.List()) }

// conversions remembers what typed objects were converted to: between two looks
// at thousands of pods, few have changed. An object of a store is never changed,
// only replaced.
type conversions struct{ last map[any]any }

func (c *conversions) of(objects []any) ([]any, error) {
	now := make(map[any]any, len(objects))
	all := make([]any, 0, len(objects))
	for _, o := range objects {
		converted, ok := c.last[o]
		if !ok {
			m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
			if err != nil {
				return nil, fmt.Errorf("converting an object: %w", err)
			}
			converted = m
		}
		now[o] = converted
		all = append(all, converted)
	}
	c.last = now
	return all, nil
}

// resolve finds the resource of a kind, and whether its objects have a
// namespace.
func resolve(mapper meta.RESTMapper, apiVersion, kind string) (gvr schema.GroupVersionResource, namespaced bool, err error) {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return gvr, false, fmt.Errorf("apiVersion %q: %w", apiVersion, err)
	}
	mapping, err := lookUp(mapper, gv, kind)
	if meta.IsNoMatchError(err) {
		// It may have been defined since.
		meta.MaybeResetRESTMapper(mapper)
		mapping, err = lookUp(mapper, gv, kind)
	}
	if err != nil {
		return gvr, false, fmt.Errorf("the cluster has no kind %s: %w", kind, err)
	}
	return mapping.Resource, mapping.Scope.Name() == meta.RESTScopeNameNamespace, nil
}

func lookUp(mapper meta.RESTMapper, gv schema.GroupVersion, kind string) (*meta.RESTMapping, error) {
	if gv.Version != "" {
		return mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: kind}, gv.Version)
	}
	// Without a group, the usual one of that kind: the mapper's first.
	gvk, err := mapper.KindFor(schema.GroupVersionResource{Resource: lower(kind)})
	if err != nil {
		return nil, err
	}
	return mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
}
