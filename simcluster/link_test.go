package simcluster

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// hanging is a server whose responses begin and then hang until the request's
// context ends.
type hanging struct{}

func (hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	r, w := io.Pipe()
	context.AfterFunc(req.Context(), func() { w.CloseWithError(req.Context().Err()) })
	return &http.Response{StatusCode: http.StatusOK, Body: r}, nil
}

func TestLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink(hanging{})
		get := func() (*http.Response, error) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			return l.RoundTrip(req)
		}
		resp, err := get()
		if err != nil {
			t.Fatal(err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := resp.Body.Read(make([]byte, 1))
			read <- err
		}()
		synctest.Wait()
		l.Cut()
		l.Cut()
		if err := <-read; !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("reading when the link was cut: %v", err)
		}
		resp.Body.Close()
		if _, err := get(); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("a request over a cut link: %v", err)
		}

		up := make(chan context.Context, 1)
		go func() {
			ctx, cancel := l.wait(t.Context())
			defer cancel()
			up <- ctx
			<-ctx.Done()
		}()
		synctest.Wait()
		if len(up) != 0 {
			t.Error("wait returned while the link was cut")
		}
		l.Restore()
		ctx := <-up
		synctest.Wait()
		if ctx.Err() != nil {
			t.Errorf("the restored link is cut: %v", ctx.Err())
		}
		if resp, err = get(); err != nil {
			t.Errorf("a request over the restored link: %v", err)
		}
		l.Cut()
		synctest.Wait()
		if ctx.Err() == nil {
			t.Error("the context of the link outlives it")
		}
		resp.Body.Close()
	})
}

func TestLinkWaitEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l := newLink(hanging{})
	if up, _ := l.wait(ctx); up != nil {
		t.Error("wait with an ended context, whole link: want nil")
	}
	l.Cut()
	if up, _ := l.wait(ctx); up != nil {
		t.Error("wait with an ended context, cut link: want nil")
	}
}

// transcript notes what a handler was told.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (r *transcript) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *transcript) PodSet(p *v1.Pod)     { r.add("set " + p.Name + " " + string(p.UID)) }
func (r *transcript) PodDeleted(p *v1.Pod) { r.add("deleted " + p.Name + " " + string(p.UID)) }
func (r *transcript) PodsSynced()          { r.add("synced") }
func (r *transcript) NodeSet(n *v1.Node)   { r.add("node " + n.ResourceVersion) }
func (r *transcript) NodeDeleted()         { r.add("node deleted") }

// take returns what was noted since the last time, sorted up to "synced".
func (r *transcript) take() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	end := slices.Index(lines, "synced")
	if end < 0 {
		end = len(lines)
	}
	slices.Sort(lines[:end])
	return strings.Join(lines, ", ")
}

func testPod(name, uid, node string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: name, UID: types.UID(uid)}, Spec: v1.PodSpec{NodeName: node}}
}

func TestHubFeedsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(nil)
		l := newLink(nil)
		var told transcript
		check := func(what, want string) {
			t.Helper()
			if got := told.take(); got != want {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
		}
		var watching sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		h.podSet(testPod("a", "1", "n"))
		watching.Go(func() { (&linkedWatches{hub: h, link: l}).WatchPods(ctx, "n", &told) })
		check("before the first list is complete", "set a 1")
		h.podSet(testPod("b", "1", "n"))
		h.podSet(testPod("c", "1", "other"))
		h.podSet(testPod("d", "1", ""))
		h.podsSynced()
		check("first list", "set b 1, synced")
		h.podSet(testPod("d", "1", "n"))
		check("a pod is bound", "set d 1")
		h.podSet(testPod("d", "2", "other"))
		check("a pod was made again elsewhere", "deleted d 1")
		h.podDeleted(testPod("c", "1", "other"))
		check("another node's pod", "")

		l.Cut()
		check("cut", "")
		h.podSet(testPod("b", "2", "n"))
		h.podDeleted(testPod("a", "1", "n"))
		h.podSet(testPod("e", "1", "n"))
		check("while cut", "")
		l.Restore()
		check("restored", "deleted a 1, deleted b 1, set b 2, set e 1")
		l.Cut()
		check("cut again", "")
		l.Restore()
		check("restored without a change", "")
		cancel()
		watching.Wait()
		h.podSet(testPod("f", "1", "n"))
		check("ended", "")
	})
}

func TestHubFeedsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(nil)
		l := newLink(nil)
		var told transcript
		check := func(what, want string) {
			t.Helper()
			if got := told.take(); got != want {
				t.Errorf("%s: told %q, want %q", what, got, want)
			}
		}
		set := func(name, version string) {
			h.nodeSet(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}})
		}
		var watching sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		watching.Go(func() { (&linkedWatches{hub: h, link: l}).WatchNode(ctx, "n", &told) })
		check("nothing there", "")
		set("n", "1")
		set("other", "1")
		check("made", "node 1")
		l.Cut()
		synctest.Wait()
		set("n", "2")
		l.Restore()
		check("changed while cut", "node 2")
		l.Cut()
		synctest.Wait()
		h.nodeDeleted(&v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}})
		l.Restore()
		check("deleted while cut", "node deleted")
		cancel()
		watching.Wait()
	})
}
