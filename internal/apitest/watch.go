package apitest

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/kubeapi"
)

// Disorder is what goes wrong with a watch. Nil functions are for nothing.
type Disorder struct {
	// Delay is how long the next event takes.
	Delay func() time.Duration
	// Twice has an event come twice, Swap two events about different pods in the
	// wrong order, Break the watch end, so that it begins with a new list.
	Twice, Swap, Break func() bool
}

// watches is what an agent watches.
type watches struct {
	server   *Server
	disorder Disorder
}

// Watches returns watches on the server, without a connection.
func (s *Server) Watches(d Disorder) kubeapi.Watches { return &watches{s, d} }

// watcher is one watch.
type watcher struct {
	// pending are the events that were not delivered yet. The Server's lock guards
	// it.
	pending []event
	wake    chan struct{}
}

// event is a change of a pod or of the Node.
type event struct {
	pod     *v1.Pod
	deleted bool
	node    *v1.Node
}

func (w *watcher) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// open begins a watch: what there is, and what comes after.
func (s *Server) open() (*watcher, []*v1.Pod, *v1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{wake: make(chan struct{}, 1)}
	s.watchers[w] = true
	return w, s.list(), s.node
}

func (s *Server) close(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
}

// take returns the next event; nil when ctx has ended.
func (s *Server) take(ctx context.Context, w *watcher, swap func() bool) *event {
	for {
		s.mu.Lock()
		if n := len(w.pending); n > 0 {
			i := 0
			if n > 1 && w.pending[0].pod != nil && w.pending[1].pod != nil &&
				w.pending[0].pod.UID != w.pending[1].pod.UID && w.pending[0].pod.Name != w.pending[1].pod.Name && is(swap) {
				i = 1
			}
			e := w.pending[i]
			w.pending = append(w.pending[:i:i], w.pending[i+1:]...)
			s.mu.Unlock()
			return &e
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
	}
}

func is(f func() bool) bool { return f != nil && f() }

// WatchPods implements kubeapi.Watches.
func (ws *watches) WatchPods(ctx context.Context, _ string, h kubeapi.PodHandler) {
	known := map[types.NamespacedName]*v1.Pod{}
	for first := true; ctx.Err() == nil; first = false {
		w, pods, _ := ws.server.open()
		ws.relist(known, pods, h)
		if first {
			h.PodsSynced()
		}
		ws.follow(ctx, w, known, h)
		ws.server.close(w)
	}
}

// relist tells of what a new list shows.
func (ws *watches) relist(known map[types.NamespacedName]*v1.Pod, pods []*v1.Pod, h kubeapi.PodHandler) {
	listed := map[types.NamespacedName]*v1.Pod{}
	for _, p := range pods {
		listed[nameOf(p)] = p
	}
	for name, p := range known {
		if q := listed[name]; q == nil || q.UID != p.UID {
			h.PodDeleted(p)
			delete(known, name)
		}
	}
	for _, p := range pods {
		known[nameOf(p)] = p
		h.PodSet(p)
	}
}

// follow delivers events until the watch breaks or ctx ends.
func (ws *watches) follow(ctx context.Context, w *watcher, known map[types.NamespacedName]*v1.Pod, h kubeapi.PodHandler) {
	for {
		e := ws.server.take(ctx, w, ws.disorder.Swap)
		if e == nil || is(ws.disorder.Break) {
			return
		}
		if e.pod == nil {
			continue
		}
		if !ws.wait(ctx) {
			return
		}
		if e.deleted {
			delete(known, nameOf(e.pod))
			h.PodDeleted(e.pod)
			continue
		}
		known[nameOf(e.pod)] = e.pod
		h.PodSet(e.pod)
		if is(ws.disorder.Twice) {
			h.PodSet(e.pod)
		}
	}
}

func (ws *watches) wait(ctx context.Context) bool {
	if ws.disorder.Delay == nil {
		return true
	}
	timer := time.NewTimer(ws.disorder.Delay())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// WatchNode implements kubeapi.Watches.
func (ws *watches) WatchNode(ctx context.Context, _ string, h kubeapi.NodeHandler) {
	w, _, node := ws.server.open()
	defer ws.server.close(w)
	if node != nil {
		h.NodeSet(node)
	}
	for {
		e := ws.server.take(ctx, w, nil)
		if e == nil {
			return
		}
		if e.node != nil {
			h.NodeSet(e.node)
		}
	}
}

// WatchServices implements kubeapi.Watches: there are none.
func (ws *watches) WatchServices(ctx context.Context) { <-ctx.Done() }

// Services implements kubeapi.Watches.
func (ws *watches) Services(string) ([]*v1.Service, error) { return nil, nil }
