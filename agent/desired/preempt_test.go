package desired

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// A pod that has to make room takes none any more, and is told of.
func TestPreempt(t *testing.T) {
	var changed []pod.UID
	s := New([]pod.Source{pod.SourceAPI}, func(active []*v1.Pod, p *v1.Pod) *pod.Rejection {
		switch {
		case len(active) == 0:
			return nil
		case p.Name == "critical":
			return &pod.Rejection{Reason: "OutOfpods", Preempt: []pod.UID{pod.UID(active[0].UID)}}
		}
		return &pod.Rejection{Reason: "OutOfpods"}
	}, Hooks{Changed: func(uid pod.UID) { changed = append(changed, uid) }, Ready: func() {}})
	s.Synced(pod.SourceAPI)
	s.Put(pod.SourceAPI, aged("first", 0))
	s.Put(pod.SourceAPI, aged("second", 0))
	s.Put(pod.SourceAPI, aged("critical", 0))
	if rejected(t, s, "first") || !rejected(t, s, "second") || rejected(t, s, "critical") {
		t.Error("the critical pod was not admitted in the first one's place")
	}
	if d, _ := s.Get("first"); !d.Preempted {
		t.Error("the first pod may stay")
	}
	if !slices.Equal(changed, []pod.UID{"first", "second", "critical", "first"}) {
		t.Errorf("told of %v", changed)
	}
}

// Only what runs, or is to, is evicted, and for the first reason.
func TestEvict(t *testing.T) {
	var changed []pod.UID
	s := New([]pod.Source{pod.SourceAPI}, func(_ []*v1.Pod, p *v1.Pod) *pod.Rejection {
		if p.Name == "rejected" {
			return &pod.Rejection{Reason: "OutOfpods"}
		}
		return nil
	}, Hooks{Changed: func(uid pod.UID) { changed = append(changed, uid) }, Ready: func() {}})
	s.Synced(pod.SourceAPI)
	for _, name := range []string{"runs", "rejected", "ended"} {
		s.Put(pod.SourceAPI, aged(name, 0))
	}
	s.Ended("ended")
	changed = nil
	if active := s.Active(); len(active) != 1 || active[0].Name != "runs" {
		t.Errorf("active are %v", active)
	}
	for _, uid := range []pod.UID{"runs", "runs", "rejected", "ended", "unknown"} {
		s.Evict(uid, "reason "+string(rune('a'+len(changed))))
	}
	if d, _ := s.Get("runs"); d.Evicted != "reason a" {
		t.Errorf("the pod that runs is evicted for %q", d.Evicted)
	}
	if !slices.Equal(changed, []pod.UID{"runs"}) {
		t.Errorf("told of %v", changed)
	}
	for _, uid := range []pod.UID{"rejected", "ended"} {
		if d, _ := s.Get(uid); d.Evicted != "" {
			t.Errorf("%s is evicted for %q", uid, d.Evicted)
		}
	}
}
