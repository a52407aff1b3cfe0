package kubeapi

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// heard is what a handler was told.
type heard struct {
	t    *testing.T
	told []string
}

func (h *heard) PodSet(p *v1.Pod) {
	if p.ManagedFields != nil {
		h.t.Error("managed fields were kept")
	}
	h.told = append(h.told, "set "+p.Name+" "+string(p.UID))
}
func (h *heard) PodDeleted(p *v1.Pod) { h.told = append(h.told, "deleted "+p.Name+" "+string(p.UID)) }
func (h *heard) PodsSynced()          { h.told = append(h.told, "synced") }
func (h *heard) NodeSet(n *v1.Node)   { h.told = append(h.told, "node "+n.ResourceVersion) }
func (h *heard) NodeDeleted()         { h.told = append(h.told, "node deleted") }

func (h *heard) expect(want ...string) {
	h.t.Helper()
	synctest.Wait()
	if !slices.Equal(h.told, want) {
		h.t.Errorf("told %q, want %q", h.told, want)
	}
	h.told = nil
}

func podOf(name, uid, version string) *v1.Pod {
	return &v1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: version,
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}}
}

const podsOfNode = "/api/v1/pods?spec.nodeName=n"

// watching runs a watch for as long as f runs.
func watching(t *testing.T, run func(ctx context.Context, c *Client, h *heard), f func(s *server, h *heard)) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newServer(t), &heard{t: t}
		s.list(podOf("a", "1", "1"), podOf("b", "2", "2"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		c := s.client()
		go func() { run(ctx, c, h); close(done) }()
		synctest.Wait()
		f(s, h)
		cancel()
		<-done
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, w := range s.watches {
			w.Close()
		}
	})
}

func watchPods(ctx context.Context, c *Client, h *heard) { c.WatchPods(ctx, "n", h) }

func TestPodsAreFollowed(t *testing.T) {
	watching(t, watchPods, func(s *server, h *heard) {
		if len(h.told) > 0 {
			// The order of the first ones is not given.
			slices.Sort(h.told[:len(h.told)-1])
		}
		h.expect("set a 1", "set b 2", "synced")
		w := s.open(podsOfNode)
		send(w, watch.Modified, podOf("a", "1", "101"))
		h.expect("set a 1")
		send(w, watch.Added, podOf("c", "3", "102"))
		send(w, watch.Deleted, podOf("b", "2", "103"))
		h.expect("set c 3", "deleted b 2")
	})
}

// What happened while the watch was broken is told when it works again.
func TestBrokenWatchIsOpenedAgain(t *testing.T) {
	watching(t, watchPods, func(s *server, h *heard) {
		h.told = nil
		// a is unchanged, b was deleted and made again, c is new.
		s.list(podOf("a", "1", "1"), podOf("b", "9", "110"), podOf("c", "3", "111"))
		w := s.open(podsOfNode)
		// Too old to go on from: everything is listed again.
		send(w, watch.Error, failure(410, metav1.StatusReasonExpired))
		w.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		// Only what is told of one name has an order.
		slices.SortStableFunc(h.told, func(a, b string) int { return cmp.Compare(strings.Fields(a)[1], strings.Fields(b)[1]) })
		h.told = slices.DeleteFunc(h.told, func(told string) bool { return told == "set a 1" })
		h.expect("deleted b 2", "set b 9", "set c 3")

		// A watch that merely breaks off goes on from where it was.
		opened := s.opened
		s.open(podsOfNode).Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		h.expect()
		if s.opened == opened {
			t.Error("the watch was not opened again")
		}
		send(s.open(podsOfNode), watch.Deleted, podOf("c", "3", "120"))
		h.expect("deleted c 3")
	})
}

func TestNodeIsFollowed(t *testing.T) {
	run := func(ctx context.Context, c *Client, h *heard) { c.WatchNode(ctx, "n", h) }
	node := func(version string) *v1.Node {
		return &v1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
			ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: version}}
	}
	synctest.Test(t, func(t *testing.T) {
		s, h := newServer(t), &heard{t: t}
		s.list(node("1"))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		c := s.client()
		go func() { run(ctx, c, h); close(done) }()
		h.expect("node 1")
		w := s.open("/api/v1/nodes?metadata.name=n")
		send(w, watch.Modified, node("101"))
		send(w, watch.Deleted, node("102"))
		h.expect("node 101", "node deleted")
		cancel()
		<-done
		w.Close()
	})
}
