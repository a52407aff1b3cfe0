package desired

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// room admits as many pods as it says.
type room int

func (r room) admit(active []*v1.Pod, _ *v1.Pod) *pod.Rejection {
	if len(active) < int(r) {
		return nil
	}
	return &pod.Rejection{Reason: "OutOfpods"}
}

type heard struct {
	changed []pod.UID
	ready   int
}

func newSet(r room, sources ...pod.Source) (*Set, *heard) {
	h := &heard{}
	return New(sources, r.admit, Hooks{
		Changed: func(uid pod.UID) { h.changed = append(h.changed, uid) },
		Ready:   func() { h.ready++ },
	}), h
}

func aged(uid string, age time.Duration) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: uid, UID: types.UID(uid),
		CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(-age))}}
}

func rejected(t *testing.T, s *Set, uid pod.UID) bool {
	t.Helper()
	d, ok := s.Get(uid)
	if !ok {
		t.Fatalf("pod %s is not in the set", uid)
	}
	return d.Rejection != nil
}

func TestFirstListIsAdmittedOldestFirst(t *testing.T) {
	s, h := newSet(1, pod.SourceAPI)
	s.Put(pod.SourceAPI, aged("young", 0))
	s.Put(pod.SourceAPI, aged("old", time.Hour))
	s.Put(pod.SourceAPI, aged("old", time.Hour))
	s.Put(pod.SourceAPI, aged("gone", 2*time.Hour))
	s.Delete(pod.SourceAPI, aged("gone", 2*time.Hour))
	if _, known := s.Get("old"); known || s.Ready() {
		t.Error("a pod entered before its source was heard to the end")
	}
	s.Synced(pod.SourceAPI)
	s.Synced(pod.SourceAPI)
	if rejected(t, s, "old") || !rejected(t, s, "young") {
		t.Error("the older pod does not have the room")
	}
	if _, known := s.Get("gone"); known || h.ready != 1 || !slices.Equal(h.changed, []pod.UID{"old", "young"}) {
		t.Errorf("heard %+v", h)
	}
}

func TestReadyWaitsForEverySource(t *testing.T) {
	s, h := newSet(9, pod.SourceAPI, pod.SourceFile)
	s.Synced(pod.SourceFile)
	if s.Ready() || h.ready != 0 {
		t.Error("ready before the API server was heard")
	}
	s.Synced(pod.SourceAPI)
	if !s.Ready() || h.ready != 1 {
		t.Error("not ready after both were heard")
	}
}

func TestRoomIsFreedByTheEnded(t *testing.T) {
	s, _ := newSet(1, pod.SourceAPI)
	s.Synced(pod.SourceAPI)
	s.Put(pod.SourceAPI, aged("a", 0))
	s.Put(pod.SourceAPI, aged("b", 0))
	if !rejected(t, s, "b") {
		t.Error("b was admitted beside a")
	}
	s.Ended("a")
	s.Put(pod.SourceAPI, aged("c", 0))
	if rejected(t, s, "c") {
		t.Error("c was rejected though a has ended")
	}
	done := aged("done", 0)
	done.Status.Phase = v1.PodSucceeded
	s.Put(pod.SourceAPI, done)
	if rejected(t, s, "done") {
		t.Error("a pod that had ended before was rejected")
	}
	// What was decided once stays.
	s.Put(pod.SourceAPI, aged("b", 0))
	if !rejected(t, s, "b") {
		t.Error("b was admitted by an update")
	}
}

func TestRemovedStaysUntilForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := newSet(9, pod.SourceAPI)
		s.Synced(pod.SourceAPI)
		s.Put(pod.SourceAPI, aged("a", 0))
		s.Forget("a")
		if _, known := s.Get("a"); !known {
			t.Error("a listed pod was forgotten")
		}
		s.Delete(pod.SourceAPI, aged("a", 0))
		at := time.Now()
		time.Sleep(time.Second)
		s.Delete(pod.SourceAPI, aged("a", 0))
		if d, known := s.Get("a"); !known || !d.Removed.Equal(at) {
			t.Errorf("after its removal: %+v, %v", d, known)
		}
		s.Delete(pod.SourceAPI, aged("never", 0))
		s.Forget("a")
		if _, known := s.Get("a"); known {
			t.Error("still known after it was forgotten")
		}
		if want := []pod.UID{"a", "a", "a"}; !slices.Equal(h.changed, want) {
			t.Errorf("heard %v, want %v", h.changed, want)
		}
	})
}

func static(uid, name string) *v1.Pod {
	p := aged(uid, 0)
	p.Namespace, p.Name = "default", name
	return p
}

// A changed manifest is a new pod: it waits until the old one has gone.
func TestStaticPodWaitsForItsNamesake(t *testing.T) {
	s, h := newSet(9, pod.SourceFile, pod.SourceHTTP)
	var told []string
	s.hooks.Static = func(name types.NamespacedName) { told = append(told, name.Name) }
	inSet := func(want ...string) {
		t.Helper()
		var got []string
		for _, p := range s.Pods() {
			got = append(got, string(p.UID))
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("in the set: %q, want %q", got, want)
		}
	}
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	s.Put(pod.SourceFile, static("a", "web"))
	s.Put(pod.SourceFile, static("other", "db"))
	s.Synced(pod.SourceFile)
	// The namesake is from another source that was not heard yet.
	s.Put(pod.SourceHTTP, static("b", "web"))
	s.Synced(pod.SourceHTTP)
	inSet("a", "other")
	if h.ready != 1 || s.Static(name).UID != "a" {
		t.Errorf("ready %d times; the static pod is %v", h.ready, s.Static(name))
	}
	// An update of a pod that waits does not let it in, nor is it there twice.
	newer := static("b", "web")
	newer.Labels = map[string]string{"newer": ""}
	s.Put(pod.SourceHTTP, newer)
	s.Put(pod.SourceFile, static("c", "web"))
	s.Delete(pod.SourceFile, static("a", "web"))
	s.Ended("a")
	inSet("a", "other")
	h.changed, told = nil, nil
	s.Forget("a")
	inSet("b", "other")
	if !slices.Contains(h.changed, "b") || !slices.Equal(told, []string{"web", "web"}) {
		t.Errorf("after its end: changed %q, static %q", h.changed, told)
	}
	if s.Static(name) != newer {
		t.Error("an old object of b has entered")
	}
	// c waits still, and then nobody wants it any more.
	s.Delete(pod.SourceFile, static("c", "web"))
	s.Delete(pod.SourceHTTP, static("b", "web"))
	s.Forget("b")
	inSet("other")
	if s.Static(name) != nil {
		t.Error("there is a static pod of that name")
	}
}

// A manifest that was away for a moment is run again, after the end of what ran
// of it.
func TestStaticPodComesBack(t *testing.T) {
	s, _ := newSet(9, pod.SourceFile)
	s.Synced(pod.SourceFile)
	s.Put(pod.SourceFile, static("a", "web"))
	s.Delete(pod.SourceFile, static("a", "web"))
	s.Put(pod.SourceFile, static("a", "web"))
	if d, _ := s.Get("a"); d.Removed.IsZero() {
		t.Error("what is to end was revived")
	}
	s.Forget("a")
	d, known := s.Get("a")
	if !known || !d.Removed.IsZero() {
		t.Errorf("after its end: %+v, %v", d, known)
	}
	// With a UID of its own it may even come back under another name.
	s.Put(pod.SourceFile, static("a", "db"))
	if d, _ := s.Get("a"); d.Pod.Name != "web" {
		t.Errorf("the running pod was renamed to %s", d.Pod.Name)
	}
	s.Delete(pod.SourceFile, static("a", "web"))
	s.Put(pod.SourceFile, static("a", "db"))
	s.Forget("a")
	if d, _ := s.Get("a"); d.Pod == nil || d.Pod.Name != "db" || !d.Removed.IsZero() {
		t.Errorf("after its end: %+v", d)
	}
	// An update leaves it what it is.
	s.SetMirror("a", "m")
	s.Put(pod.SourceFile, static("a", "db"))
	if d, _ := s.Get("a"); d.Mirror != "m" {
		t.Errorf("mirror %q", d.Mirror)
	}
}

// Static pods are there without the API server.
func TestStaticPodsDoNotWaitForOtherSources(t *testing.T) {
	s, _ := newSet(9, pod.SourceAPI, pod.SourceFile)
	s.Put(pod.SourceFile, static("a", "web"))
	s.Synced(pod.SourceFile)
	if _, known := s.Get("a"); !known || s.Ready() {
		t.Errorf("known %v, ready %v", known, s.Ready())
	}
}
