package scenarios

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// maxEvents bounds the lines of events that a verdict shows.
const maxEvents = 20

// eventsOf are the newest events of what an expectation is about, as kubectl
// describe shows them. What happened to many objects alike is one line.
func (r *Runner) eventsOf(ctx context.Context, e *Expect) []string {
	list, err := r.client.CoreV1().Events("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return []string{fmt.Sprintf("the events could not be listed: %v", err)}
	}
	about := r.about(e)
	list.Items = slices.DeleteFunc(list.Items, func(ev v1.Event) bool { return !about(&ev) })
	return eventLines(list.Items, time.Now())
}

// about says whether an event may tell why an expectation is not met.
func (r *Runner) about(e *Expect) func(*v1.Event) bool {
	switch {
	case e.Pods != nil:
		uids := map[types.UID]bool{}
		for _, p := range r.podsMatching(e.Pods.PodMatch) {
			if !isReady(p) {
				uids[p.UID] = true
			}
		}
		return func(ev *v1.Event) bool { return uids[ev.InvolvedObject.UID] }
	case e.Nodes != nil:
		names := map[string]bool{}
		for _, n := range r.nodesMatching(e.Nodes.Selector) {
			if !nodeReady(n) {
				names[n.Name] = true
			}
		}
		return func(ev *v1.Event) bool { return ev.InvolvedObject.Kind == "Node" && names[ev.InvolvedObject.Name] }
	case e.File != nil:
		uids := map[types.UID]bool{}
		for _, p := range r.podsMatching(e.File.PodMatch) {
			uids[p.UID] = true
		}
		return func(ev *v1.Event) bool { return uids[ev.InvolvedObject.UID] }
	case e.Object != nil:
		return aboutObject(&e.Object.Target)
	case e.Rollout != nil:
		return aboutObject(e.Rollout)
	}
	return func(ev *v1.Event) bool { return ev.Type == v1.EventTypeWarning }
}

// aboutObject is about an object and what it has made: a Deployment's
// ReplicaSets and their pods begin with its name.
func aboutObject(t *Target) func(*v1.Event) bool {
	return func(ev *v1.Event) bool {
		o := &ev.InvolvedObject
		if o.Namespace != "" && o.Namespace != cmp.Or(t.Namespace, metav1.NamespaceDefault) {
			return false
		}
		return strings.EqualFold(o.Kind, t.Kind) && o.Name == t.Name || strings.HasPrefix(o.Name, t.Name+"-")
	}
}

// eventGroup is what happened to some objects alike.
type eventGroup struct {
	first   *v1.Event
	last    time.Time
	times   int32
	objects map[string]bool
}

// eventLines are the newest events, the oldest of them first.
func eventLines(events []v1.Event, now time.Time) []string {
	groups := map[string]*eventGroup{}
	var all []*eventGroup
	for i := range events {
		ev := &events[i]
		key := strings.Join([]string{ev.Type, ev.Reason, ev.InvolvedObject.Kind, pattern(ev)}, "\x00")
		g := groups[key]
		if g == nil {
			g = &eventGroup{first: ev, objects: map[string]bool{}}
			groups[key] = g
			all = append(all, g)
		}
		if t := lastSeen(ev); t.After(g.last) {
			g.last = t
		}
		g.times += occurrences(ev)
		g.objects[ev.InvolvedObject.Name] = true
	}
	slices.SortStableFunc(all, func(a, b *eventGroup) int { return a.last.Compare(b.last) })
	var lines []string
	for _, g := range all[max(0, len(all)-maxEvents):] {
		lines = append(lines, g.line(now))
	}
	return lines
}

func (g *eventGroup) line(now time.Time) string {
	ev := g.first
	object := strings.ToLower(ev.InvolvedObject.Kind) + "/" + ev.InvolvedObject.Name
	if n := len(g.objects) - 1; n > 0 {
		object += fmt.Sprintf(" and %d more", n)
	}
	line := fmt.Sprintf("%-7s %s  %s  %s", ev.Type, ev.Reason, object, strings.TrimSpace(ev.Message))
	if g.times > 1 {
		line += fmt.Sprintf(" (x%d)", g.times)
	}
	return fmt.Sprintf("%8s  %s", "-"+seconds(now.Sub(g.last)), line)
}

// pattern is an event's message without what differs from object to object.
func pattern(ev *v1.Event) string {
	return strings.ReplaceAll(ev.Message, ev.InvolvedObject.Name, "\x00")
}

// lastSeen is when an event happened last. The newer API's events have it in
// other fields.
func lastSeen(ev *v1.Event) time.Time {
	t := ev.CreationTimestamp.Time
	for _, other := range []time.Time{ev.LastTimestamp.Time, ev.EventTime.Time} {
		if other.After(t) {
			t = other
		}
	}
	if ev.Series != nil && ev.Series.LastObservedTime.After(t) {
		t = ev.Series.LastObservedTime.Time
	}
	return t
}

func occurrences(ev *v1.Event) int32 {
	if ev.Series != nil {
		return max(ev.Series.Count, 1)
	}
	return max(ev.Count, 1)
}
