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
