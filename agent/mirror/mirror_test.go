package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// world is the API server, with one watch, and the desired set.
type world struct {
	mu      sync.Mutex
	keeper  *Keeper
	pods    map[types.NamespacedName]*v1.Pod
	version int
	calls   []string
	fail    error
	// deaf: the watch tells nothing.
	deaf bool
	// webhook changes what is created.
	webhook func(*v1.Pod)

	static  map[types.NamespacedName]*v1.Pod
	mirrors map[pod.UID]pod.MirrorUID
	ready   bool
	node    *v1.Node
}

var pods = schema.GroupResource{Resource: "pods"}

func (w *world) CreatePod(_ context.Context, p *v1.Pod) (*v1.Pod, error) {
	w.mu.Lock()
	w.calls = append(w.calls, "create "+p.Name+" "+p.Annotations[pod.AnnotationMirror])
	err := w.fail
	if err == nil && w.pods[nameOf(p)] != nil {
		err = apierrors.NewAlreadyExists(pods, p.Name)
	}
	if err != nil {
		w.mu.Unlock()
		return nil, fmt.Errorf("creating: %w", err)
	}
	p = p.DeepCopy()
	w.version++
	p.UID, p.ResourceVersion = types.UID(fmt.Sprintf("m%d", w.version)), strconv.Itoa(w.version)
	if w.webhook != nil {
		w.webhook(p)
	}
	w.pods[nameOf(p)] = p
	deaf := w.deaf
	w.mu.Unlock()
	if !deaf {
		w.keeper.Set(p)
	}
	return p, nil
}

func (w *world) DeletePod(_ context.Context, namespace, name string, uid types.UID, grace time.Duration) error {
	w.mu.Lock()
	w.calls = append(w.calls, fmt.Sprintf("delete %s %s", name, uid))
	key := types.NamespacedName{Namespace: namespace, Name: name}
	p, err := w.pods[key], w.fail
	switch {
	case err != nil:
	case grace != 0:
		err = errors.New("a mirror is deleted at once")
	case p == nil:
		err = apierrors.NewNotFound(pods, name)
	case p.UID != uid:
		err = apierrors.NewConflict(pods, name, errors.New("uid"))
	default:
		delete(w.pods, key)
	}
	w.mu.Unlock()
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	w.keeper.Deleted(p)
	return nil
}

func (w *world) Static(name types.NamespacedName) *v1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.static[name]
}

func (w *world) SetMirror(static pod.UID, mirror pod.MirrorUID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mirrors[static] = mirror
}

func (w *world) Ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ready
}

// set changes the world and has the keeper look at the pod web.
func (w *world) set(f func()) {
	w.mu.Lock()
	f()
	w.mu.Unlock()
	w.keeper.Mark(web)
	synctest.Wait()
}

func (w *world) expect(t *testing.T, want ...string) {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.calls, want) {
		t.Errorf("calls %q, want %q", w.calls, want)
	}
	w.calls = nil
}

var web = types.NamespacedName{Namespace: "default", Name: "web-n"}

func staticPod(uid string) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-n", UID: types.UID(uid),
		Labels:      map[string]string{"app": "web"},
		Annotations: map[string]string{pod.AnnotationSource: "file", pod.AnnotationHash: uid}}}
	p.Spec.NodeName = "n"
	return p
}

func mirrorOf(static *v1.Pod, uid, version string) *v1.Pod {
	m := of(static, &v1.Node{})
	m.UID, m.ResourceVersion = types.UID(uid), version
	return m
}

func play(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{pods: map[types.NamespacedName]*v1.Pod{}, static: map[types.NamespacedName]*v1.Pod{},
			mirrors: map[pod.UID]pod.MirrorUID{}, ready: true,
			node: &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "node-uid"}}}
		w.keeper = New(Deps{API: w, Desired: w, Log: slog.New(slog.DiscardHandler), Node: func() *v1.Node {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.node
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.keeper.Run(ctx); close(done) }()
		f(t, w)
		cancel()
		<-done
	})
}

func TestMirrorsLife(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.set(func() { w.static[web] = staticPod("a") })
		w.expect(t)
		w.keeper.Synced()
		w.expect(t, "create web-n a")
		m := w.pods[web]
		owner := m.OwnerReferences
		if len(owner) != 1 || owner[0].Kind != "Node" || owner[0].APIVersion != "v1" || owner[0].Name != "n" ||
			owner[0].UID != "node-uid" || owner[0].Controller == nil || !*owner[0].Controller || owner[0].BlockOwnerDeletion != nil {
			t.Errorf("owner %+v", owner)
		}
		if m.Labels["app"] != "web" || m.Annotations[pod.AnnotationSource] != "file" || m.Spec.NodeName != "n" {
			t.Errorf("mirror %+v", m)
		}
		if got := w.keeper.Mirror(staticPod("a")); got == nil || got.UID != m.UID || w.mirrors["a"] != "m1" {
			t.Errorf("known mirror %v, %q", got, w.mirrors)
		}
		if w.keeper.Mirror(staticPod("b")) != nil {
			t.Error("the mirror of another manifest")
		}
		time.Sleep(time.Hour)
		w.expect(t)

		// Somebody deletes it, at once and then with grace.
		w.set(func() { delete(w.pods, web) })
		w.keeper.Deleted(m)
		w.expect(t, "create web-n a")
		terminating := w.pods[web].DeepCopy()
		terminating.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		terminating.ResourceVersion = "2"
		w.keeper.Set(terminating)
		w.expect(t, "delete web-n m2", "create web-n a")

		// The manifest changes, and goes.
		w.set(func() { w.static[web] = staticPod("b") })
		w.expect(t, "delete web-n m3", "create web-n b")
		w.set(func() { delete(w.static, web) })
		w.expect(t, "delete web-n m4")
		if len(w.pods) != 0 || len(w.keeper.mirrors) != 0 || len(w.keeper.retries) != 0 {
			t.Errorf("left: %v, %v, %v", w.pods, w.keeper.mirrors, w.keeper.retries)
		}
	})
}

// An orphan is one only when it is known which static pods there are.
func TestOrphans(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.ready = false
		w.pods[web] = mirrorOf(staticPod("a"), "m", "1")
		w.keeper.Set(w.pods[web])
		w.keeper.Synced()
		w.expect(t)
		time.Sleep(time.Hour)
		w.expect(t)
		w.mu.Lock()
		w.ready = true
		w.mu.Unlock()
		w.keeper.MarkAll()
		w.expect(t, "delete web-n m")
	})
}

// An agent that starts anew keeps the mirrors that there are.
func TestMirrorIsKept(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.static[web] = staticPod("a")
		w.pods[web] = mirrorOf(staticPod("a"), "m", "1")
		w.keeper.Set(w.pods[web])
		w.keeper.Synced()
		w.expect(t)
		if w.mirrors["a"] != "m" {
			t.Errorf("mirrors %v", w.mirrors)
		}
		// One of another manifest is replaced, whether or not all is known.
		w.set(func() { w.ready, w.static[web] = false, staticPod("b") })
		w.expect(t, "delete web-n m", "create web-n b")
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.keeper.Synced()
		w.set(func() { w.fail, w.static[web] = errors.New("no route"), staticPod("a") })
		w.expect(t, "create web-n a")
		// What happens meanwhile does not bring the next try forward.
		for range 10 {
			w.keeper.Mark(web)
		}
		w.expect(t)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.mu.Lock()
		n := len(w.calls)
		w.calls, w.fail = nil, nil
		w.mu.Unlock()
		if n < 20 || n > 25 {
			t.Errorf("%d tries in ten minutes, want about 23", n)
		}
		time.Sleep(lastRetry)
		w.expect(t, "create web-n a")
		// Without a failure nothing waits.
		w.set(func() { w.static[web] = staticPod("b") })
		w.expect(t, "delete web-n m1", "create web-n b")
	})
}

func TestNodeIsNotRegistered(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.keeper.Synced()
		n := w.node
		w.set(func() { w.node, w.static[web] = nil, staticPod("a") })
		w.expect(t)
		w.mu.Lock()
		w.node = n
		w.mu.Unlock()
		time.Sleep(lastRetry)
		w.expect(t, "create web-n a")
	})
}

// A watch that is behind tells of what is gone, and not of what is there.
func TestStaleWatch(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.keeper.Synced()
		w.deaf, w.version = true, 10
		w.set(func() { w.static[web] = staticPod("a") })
		w.expect(t, "create web-n a")
		old := mirrorOf(staticPod("z"), "m0", "5")
		w.keeper.Set(old)
		w.keeper.Deleted(old)
		w.expect(t)
		// Somebody else's pod has the name: that is retried, and not taken away.
		w.set(func() {
			theirs := w.pods[web].DeepCopy()
			theirs.UID = "theirs"
			w.pods[web] = theirs
		})
		w.keeper.Deleted(mirrorOf(staticPod("a"), "m11", "11"))
		w.expect(t, "create web-n a")
		time.Sleep(firstRetry)
		w.expect(t, "create web-n a")
	})
}

// What the API server makes another pod of must not be made and deleted for ever.
func TestWebhook(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.keeper.Synced()
		w.webhook = func(p *v1.Pod) { p.Annotations[pod.AnnotationMirror] = "x" }
		w.set(func() { w.static[web] = staticPod("a") })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.calls); n > 14 {
			t.Errorf("%d calls in a minute: %q", n, w.calls)
		}
	})
}
