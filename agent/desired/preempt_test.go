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
