package publish

import (
	"context"
	"errors"
	"log/slog"
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

// mirrored is what the keeper of mirrors knows.
type mirrored struct {
	mu     sync.Mutex
	mirror *v1.Pod
}

func (m *mirrored) of(*v1.Pod) *v1.Pod {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mirror
}

func staticPod() *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "hash",
		Annotations: map[string]string{pod.AnnotationSource: "file", pod.AnnotationHash: "hash"}}}
}

// makeMirror puts a new mirror into the API server and tells of it.
func makeMirror(api *fakeAPI, m *mirrored, p *Publisher, uid string) *v1.Pod {
	api.mu.Lock()
	mirror := staticPod()
	mirror.UID, mirror.Annotations[pod.AnnotationMirror] = types.UID(uid), "hash"
	mirror.Status.Phase = v1.PodPending
	api.store(mirror)
	api.mu.Unlock()
	m.mu.Lock()
	m.mirror = mirror
	m.mu.Unlock()
	p.OnPod(mirror)
	return mirror
}

func playMirrored(t *testing.T, f func(t *testing.T, api *fakeAPI, m *mirrored, p *Publisher)) {
	synctest.Test(t, func(t *testing.T) {
		api, m := &fakeAPI{}, &mirrored{}
		p := New(api, m.of, func(pod.UID) {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		f(t, api, m, p)
		cancel()
		<-done
	})
}

func TestStatusGoesToTheMirror(t *testing.T) {
	playMirrored(t, func(t *testing.T, api *fakeAPI, m *mirrored, p *Publisher) {
		p.Set(staticPod(), says("a"))
		synctest.Wait()
		api.expect(t)
		api.version = 10
		makeMirror(api, m, p, "m1")
		synctest.Wait()
		api.expect(t, "patch a")
		p.Set(staticPod(), says("b"))
		p.OnPod(api.pod)
		synctest.Wait()
		api.expect(t, "patch b")

		// Another mirror is told everything; what is left of the old one is not.
		makeMirror(api, m, p, "m2")
		synctest.Wait()
		api.expect(t, "patch b")
		if api.pod.UID != "m2" || api.pod.Status.Message != "b" {
			t.Errorf("the mirror says %+v", api.pod.Status)
		}
		p.Forget("hash")
		makeMirror(api, m, p, "m3")
		synctest.Wait()
		api.expect(t)
	})
}

// A mirror may be there before the status, and go while it is written.
func TestMirrorGoes(t *testing.T) {
	playMirrored(t, func(t *testing.T, api *fakeAPI, m *mirrored, p *Publisher) {
		makeMirror(api, m, p, "m1")
		p.Set(staticPod(), says("a"))
		synctest.Wait()
		api.expect(t, "patch a")
		api.mu.Lock()
		api.pod = nil
		api.mu.Unlock()
		m.mu.Lock()
		m.mirror = nil
		m.mu.Unlock()
		p.Set(staticPod(), says("b"))
		synctest.Wait()
		api.expect(t, "patch b")
		p.Set(staticPod(), says("c"))
		time.Sleep(time.Minute)
		api.expect(t)
		makeMirror(api, m, p, "m2")
		synctest.Wait()
		api.expect(t, "patch c")

		// Replaced while the status is written: a Conflict, and then the new one.
		api.latency = time.Second
		p.Set(staticPod(), says("d"))
		time.Sleep(500 * time.Millisecond)
		makeMirror(api, m, p, "m3")
		time.Sleep(time.Minute)
		synctest.Wait()
		api.expect(t, "patch d", "get", "patch d")
		if api.pod.UID != "m3" || api.pod.Status.Message != "d" {
			t.Errorf("the mirror %s says %+v", api.pod.UID, api.pod.Status)
		}
	})
}

// conflicting has one write fail with a Conflict, for whatever reason.
type conflicting struct {
	*fakeAPI
	done bool
}

func (c *conflicting) PatchPodStatus(ctx context.Context, old *v1.Pod, status v1.PodStatus) (*v1.Pod, error) {
	if !c.done {
		c.done = true
		return nil, apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, old.Name, errors.New("chance"))
	}
	return c.fakeAPI.PatchPodStatus(ctx, old, status)
}

// A Conflict about the mirror that there still is does not lose it.
func TestConflictKeepsTheMirror(t *testing.T) {
	playMirrored(t, func(t *testing.T, api *fakeAPI, m *mirrored, p *Publisher) {
		p.api = &conflicting{fakeAPI: api}
		makeMirror(api, m, p, "m1")
		p.Set(staticPod(), says("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		api.expect(t, "get", "patch a")
	})
}

// A static pod that has ended may begin anew, which its mirror shows.
func TestMirrorIsNotFinal(t *testing.T) {
	playMirrored(t, func(t *testing.T, api *fakeAPI, m *mirrored, p *Publisher) {
		makeMirror(api, m, p, "m1")
		p.Set(staticPod(), v1.PodStatus{Phase: v1.PodFailed})
		synctest.Wait()
		p.Set(staticPod(), v1.PodStatus{Phase: v1.PodRunning})
		synctest.Wait()
		if api.pod.Status.Phase != v1.PodRunning {
			t.Errorf("phase %s", api.pod.Status.Phase)
		}
		// A pod that only claims to be a mirror of one that is not static.
		lie := staticPod()
		lie.UID, lie.ResourceVersion = "x", strconv.Itoa(api.version+1)
		lie.Annotations = map[string]string{pod.AnnotationMirror: "api"}
		p.Set(&v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "api", Name: "p", ResourceVersion: "1"}}, v1.PodStatus{})
		p.OnPod(lie)
		if p.pods["api"].known.UID != "api" {
			t.Error("a mirror pod displaced an ordinary one")
		}
	})
}
