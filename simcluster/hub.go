package simcluster

import (
	"context"
	"maps"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"nodelet/agent/kubeapi"
)

// hub feeds all agents from one watch each on pods, nodes and services. Handlers
// are called with the hub's lock held, so they must not call the hub; that they
// are quick is what makes one hub enough for thousands.
type hub struct {
	client kubernetes.Interface
	// services are the cluster's, for all agents.
	services kubeapi.Services

	mu sync.Mutex
	// pods are all bound pods by node and namespace/name. Guarded by mu.
	pods map[string]map[string]*v1.Pod
	// podNode is the node of each pod in pods. Guarded by mu.
	podNode map[string]string
	nodes   map[string]*v1.Node
	// synced: the first list of pods is complete. Guarded by mu.
	synced    bool
	podFeeds  map[string]*podFeed
	nodeFeeds map[string]*nodeFeed
}

// podFeed is one agent's end of the hub's watch on pods.
type podFeed struct {
	handler kubeapi.PodHandler
	// seen are the pods that the handler knows of, while it is not fed.
	seen map[string]*v1.Pod
	// synced: the handler was told that it knows all pods.
	synced bool
}

// nodeFeed is one agent's end of the hub's watch on nodes.
type nodeFeed struct {
	handler kubeapi.NodeHandler
	// seen is the node that the handler knows of, while it is not fed.
	seen *v1.Node
}

func newHub(client kubernetes.Interface) *hub {
	return &hub{
		client:    client,
		pods:      map[string]map[string]*v1.Pod{},
		podNode:   map[string]string{},
		nodes:     map[string]*v1.Node{},
		podFeeds:  map[string]*podFeed{},
		nodeFeeds: map[string]*nodeFeed{},
	}
}

// run watches until ctx ends.
func (h *hub) run(ctx context.Context) error {
	var watches sync.WaitGroup
	defer watches.Wait()
	watches.Go(func() {
		h.watch("nodes", &v1.Node{}, cache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { h.nodeSet(obj.(*v1.Node)) },
			UpdateFunc: func(_, obj any) { h.nodeSet(obj.(*v1.Node)) },
			DeleteFunc: func(obj any) { h.nodeDeleted(last(obj).(*v1.Node)) },
		}).RunWithContext(ctx)
	})
	watches.Go(func() {
		client := h.client.CoreV1().RESTClient()
		lw := cache.NewListWatchFromClient(client, "services", v1.NamespaceAll, fields.Everything())
		kubeapi.FollowServices(ctx, cache.ToListWatcherWithWatchListSemantics(lw, client), &h.services)
	})
	pods := h.watch("pods", &v1.Pod{}, cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { h.podSet(obj.(*v1.Pod)) },
		UpdateFunc: func(_, obj any) { h.podSet(obj.(*v1.Pod)) },
		DeleteFunc: func(obj any) { h.podDeleted(last(obj).(*v1.Pod)) },
	})
	watches.Go(func() { pods.RunWithContext(ctx) })
	select {
	case <-pods.HasSyncedChecker().Done():
		h.podsSynced()
	case <-ctx.Done():
	}
	<-ctx.Done()
	return nil
}

func (h *hub) watch(resource string, kind runtime.Object, handler cache.ResourceEventHandler) cache.Controller {
	client := h.client.CoreV1().RESTClient()
	lw := cache.NewListWatchFromClient(client, resource, v1.NamespaceAll, fields.Everything())
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(lw, client),
		ObjectType:    kind,
		Transform:     dropManagedFields,
		Handler:       handler,
	})
	return informer
}

// dropManagedFields leaves out what no node needs and what costs the most.
func dropManagedFields(obj any) (any, error) {
	if o, err := meta.Accessor(obj); err == nil {
		o.SetManagedFields(nil)
	}
	return obj, nil
}

// last is the newest known state of a deleted object, also when its deletion was
// only noticed by a new list.
func last(obj any) any {
	if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return obj
}

func podKey(p *v1.Pod) string { return p.Namespace + "/" + p.Name }

func (h *hub) podSet(p *v1.Pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key, node := podKey(p), p.Spec.NodeName
	// A pod that was deleted and made again unnoticed may be elsewhere now.
	if before, ok := h.podNode[key]; ok && (before != node || h.pods[before][key].UID != p.UID) {
		h.drop(key, before, h.pods[before][key])
	}
	if node == "" {
		return
	}
	if h.pods[node] == nil {
		h.pods[node] = map[string]*v1.Pod{}
	}
	h.pods[node][key], h.podNode[key] = p, node
	if feed := h.podFeeds[node]; feed != nil {
		feed.handler.PodSet(p)
	}
}

func (h *hub) podDeleted(p *v1.Pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if node, ok := h.podNode[podKey(p)]; ok {
		h.drop(podKey(p), node, p)
	}
}

// drop forgets a pod and tells its node, with the lock held.
func (h *hub) drop(key, node string, p *v1.Pod) {
	delete(h.podNode, key)
	delete(h.pods[node], key)
	if len(h.pods[node]) == 0 {
		delete(h.pods, node)
	}
	if feed := h.podFeeds[node]; feed != nil {
		feed.handler.PodDeleted(p)
	}
}

func (h *hub) podsSynced() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.synced = true
	for _, feed := range h.podFeeds {
		feed.sync()
	}
}

func (f *podFeed) sync() {
	if !f.synced {
		f.synced = true
		f.handler.PodsSynced()
	}
}

// feedPods tells the feed of the node's pods until ctx ends: first of what has
// changed since it was last fed, as a new list would.
func (h *hub) feedPods(ctx context.Context, node string, feed *podFeed) {
	h.mu.Lock()
	for key, p := range feed.seen {
		// Another pod of the name is not the one that was seen.
		if now := h.pods[node][key]; now == nil || now.UID != p.UID {
			feed.handler.PodDeleted(p)
		}
	}
	for key, p := range h.pods[node] {
		if feed.seen[key] != p {
			feed.handler.PodSet(p)
		}
	}
	feed.seen = nil
	h.podFeeds[node] = feed
	if h.synced {
		feed.sync()
	}
	h.mu.Unlock()

	<-ctx.Done()

	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.podFeeds, node)
	feed.seen = maps.Clone(h.pods[node])
}

func (h *hub) nodeSet(n *v1.Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.nodes[n.Name] = n
	if feed := h.nodeFeeds[n.Name]; feed != nil {
		feed.handler.NodeSet(n)
	}
}

func (h *hub) nodeDeleted(n *v1.Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.nodes, n.Name)
	if feed := h.nodeFeeds[n.Name]; feed != nil {
		feed.handler.NodeDeleted()
	}
}

// feedNode tells the feed of the Node until ctx ends.
func (h *hub) feedNode(ctx context.Context, name string, feed *nodeFeed) {
	h.mu.Lock()
	switch n := h.nodes[name]; {
	case n != nil && n != feed.seen:
		feed.handler.NodeSet(n)
	case n == nil && feed.seen != nil:
		feed.handler.NodeDeleted()
	}
	h.nodeFeeds[name] = feed
	h.mu.Unlock()

	<-ctx.Done()

	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.nodeFeeds, name)
	feed.seen = h.nodes[name]
}
