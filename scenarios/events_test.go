package scenarios

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEventLines(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	event := func(ago time.Duration, kind, name, reason, message string, count int32) v1.Event {
		return v1.Event{InvolvedObject: v1.ObjectReference{Kind: kind, Name: name}, Type: v1.EventTypeWarning,
			Reason: reason, Message: message, Count: count, LastTimestamp: metav1.NewTime(now.Add(-ago))}
	}
	series := event(0, "Pod", "web-3", "FailedScheduling", "0/1 nodes are available", 0)
	series.LastTimestamp = metav1.Time{}
	series.EventTime = metav1.NewMicroTime(now.Add(-50 * time.Second))
	series.Series = &v1.EventSeries{Count: 4, LastObservedTime: metav1.NewMicroTime(now.Add(-time.Second))}
	got := eventLines([]v1.Event{
		event(3*time.Second, "Pod", "web-1", "BackOff", "Back-off restarting c in web-1", 2),
		series,
		event(2*time.Second, "Pod", "web-2", "BackOff", "Back-off restarting c in web-2", 3),
		event(30*time.Second, "Node", "a", "NodeNotReady", "a is not ready\n", 1),
		event(3*time.Second, "Pod", "web-1", "BackOff", "Back-off pulling", 1),
	}, now)
	want := []string{
		"  -30.0s  Warning NodeNotReady  node/a  a is not ready",
		"   -3.0s  Warning BackOff  pod/web-1  Back-off pulling",
		"   -2.0s  Warning BackOff  pod/web-1 and 1 more  Back-off restarting c in web-1 (x5)",
		"   -1.0s  Warning FailedScheduling  pod/web-3  0/1 nodes are available (x4)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestEventLinesAreBounded to the newest.
func TestEventLinesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	var events []v1.Event
	for i := range maxEvents + 5 {
		events = append(events, v1.Event{Reason: fmt.Sprintf("Reason%d", i), LastTimestamp: metav1.NewTime(now.Add(-time.Duration(i) * time.Second))})
	}
	lines := eventLines(events, now)
	if len(lines) != maxEvents {
		t.Fatalf("%d lines, want %d", len(lines), maxEvents)
	}
	if want := eventLines(events[:1], now)[0]; lines[len(lines)-1] != want {
		t.Errorf("the last is %s, want %s", lines[len(lines)-1], want)
	}
}

func TestAbout(t *testing.T) {
	r := &Runner{}
	for _, test := range []struct {
		name   string
		expect *Expect
		event  v1.Event
		want   bool
	}{
		{"the object", &Expect{Object: &ObjectExpect{Target: Target{Kind: "job", Name: "x"}}},
			v1.Event{InvolvedObject: v1.ObjectReference{Kind: "Job", Namespace: "default", Name: "x"}}, true},
		{"what it made", &Expect{Rollout: &Target{Kind: "Deployment", Name: "x"}},
			v1.Event{InvolvedObject: v1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "x-5f-abc"}}, true},
		{"another", &Expect{Rollout: &Target{Kind: "Deployment", Name: "x"}},
			v1.Event{InvolvedObject: v1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "xy"}}, false},
		{"another namespace", &Expect{Rollout: &Target{Kind: "Deployment", Name: "x", Namespace: "n"}},
			v1.Event{InvolvedObject: v1.ObjectReference{Kind: "Deployment", Namespace: "default", Name: "x"}}, false},
		{"a warning, for CEL", &Expect{CEL: "true"}, v1.Event{Type: v1.EventTypeWarning}, true},
		{"something usual, for CEL", &Expect{CEL: "true"}, v1.Event{Type: v1.EventTypeNormal}, false},
	} {
		if got := r.about(test.expect)(&test.event); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
