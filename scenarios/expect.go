package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// settle is how long changes are gathered before an expectation is looked at
// again: a roll-out makes thousands.
const settle = 50 * time.Millisecond

// Seen is what an expectation saw at a time.
type Seen struct {
	After time.Duration `json:"after"`
	Saw   string        `json:"saw"`
}

// ExpectationError says that an expectation was not met.
type ExpectationError struct {
	Want string
	// Held says that it was met but did not stay so.
	Held   bool
	Within time.Duration
	Seen   []Seen
	// Events are those of objects that the expectation is about.
	Events []string
}

// Error is one line; the rest is for reports.
func (e *ExpectationError) Error() string {
	last := "nothing"
	if len(e.Seen) > 0 {
		last = e.Seen[len(e.Seen)-1].Saw
	}
	if e.Held {
		return fmt.Sprintf("did not stay so: expected %s, last saw %s", e.Want, last)
	}
	return fmt.Sprintf("not within %v: expected %s, last saw %s", e.Within, e.Want, last)
}

// number is one count that is expected.
type number struct {
	name string
	want int
}

func numbers(pairs ...any) []number {
	var all []number
	for i := 0; i < len(pairs); i += 2 {
		if n := pairs[i+1].(*int); n != nil {
			all = append(all, number{pairs[i].(string), *n})
		}
	}
	return all
}

func (p *PodsExpect) wants() []number {
	return numbers("count", p.Count, "ready", p.Ready, "running", p.Running, "pending", p.Pending,
		"succeeded", p.Succeeded, "failed", p.Failed)
}

func (n *NodesExpect) wants() []number {
	return numbers("count", n.Count, "ready", n.Ready, "notReady", n.NotReady)
}

// outcome is one look at an expectation.
type outcome struct {
	met bool
	saw string
}

// look evaluates an expectation now.
func (r *Runner) look(e *Expect) (outcome, error) {
	switch {
	case e.Pods != nil:
		return r.lookPods(e.Pods), nil
	case e.Nodes != nil:
		return r.lookNodes(e.Nodes), nil
	case e.Object != nil:
		return r.lookObject(e)
	}
	return r.lookCEL(e)
}

func (r *Runner) lookPods(want *PodsExpect) outcome {
	got := map[string]int{}
	fewest := -1
	for _, p := range r.podsMatching(want.PodMatch, want.Node) {
		got["count"]++
		got[strings.ToLower(string(p.Status.Phase))]++
		if isReady(p) {
			got["ready"]++
		}
		if n := restarts(p); fewest < 0 || n < fewest {
			fewest = n
		}
	}
	o := compare(want.wants(), got)
	if m := want.MinRestarts; m != nil {
		o.met = o.met && fewest >= *m
		o.saw += fmt.Sprintf(", fewest restarts %d", max(fewest, 0))
	}
	return o
}

func compare(wants []number, got map[string]int) outcome {
	o := outcome{met: true}
	var saw []string
	for _, w := range wants {
		o.met = o.met && got[w.name] == w.want
		saw = append(saw, fmt.Sprintf("%s %d", w.name, got[w.name]))
	}
	if !slices.ContainsFunc(wants, func(n number) bool { return n.name == "count" }) {
		saw = append(saw, fmt.Sprintf("of %d", got["count"]))
	}
	o.saw = strings.Join(saw, ", ")
	return o
}

func (r *Runner) podsMatching(m PodMatch, node string) []*v1.Pod {
	match := m.compile()
	var pods []*v1.Pod
	for _, o := range r.view.pods.List() {
		if p := o.(*v1.Pod); match.matches(p) && (node == "" || node == p.Spec.NodeName) {
			pods = append(pods, p)
		}
	}
	return pods
}

// isReady reports whether a pod is ready and not about to go.
func isReady(p *v1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c v1.PodCondition) bool {
		return c.Type == v1.PodReady && c.Status == v1.ConditionTrue
	})
}

func restarts(p *v1.Pod) int {
	n := 0
	for _, s := range p.Status.ContainerStatuses {
		n += int(s.RestartCount)
	}
	return n
}

func (r *Runner) lookNodes(want *NodesExpect) outcome {
	got := map[string]int{}
	for _, n := range r.nodesMatching(want.Selector) {
		got["count"]++
		if nodeReady(n) {
			got["ready"]++
		} else {
			got["notReady"]++
		}
	}
	return compare(want.wants(), got)
}

func (r *Runner) nodesMatching(selector string) []*v1.Node {
	s, err := labels.Parse(selector)
	if err != nil {
		return nil
	}
	var nodes []*v1.Node
	for _, o := range r.view.nodes.List() {
		if n := o.(*v1.Node); s.Matches(labels.Set(n.Labels)) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func nodeReady(n *v1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
	})
}

func (r *Runner) lookObject(e *Expect) (outcome, error) {
	object, err := r.view.object(&e.Object.Target)
	switch {
	case err != nil:
		return outcome{}, err
	case object == nil:
		return outcome{met: e.Object.Absent, saw: "no such object"}, nil
	case e.Object.Absent:
		return outcome{saw: "it is there"}, nil
	}
	return e.program.outcome(map[string]any{"object": object}), nil
}

func (r *Runner) lookCEL(e *Expect) (outcome, error) {
	vars := map[string]any{"killed": r.killedNames()}
	for name, store := range map[string][]any{"pods": r.view.pods.List(), "nodes": r.view.nodes.List()} {
		if !strings.Contains(e.program.text, name) {
			// Converting thousands of pods for nothing would be a waste.
			vars[name] = []any{}
			continue
		}
		list, err := untyped(store)
		if err != nil {
			return outcome{}, err
		}
		vars[name] = list
	}
	for name, target := range e.With {
		list, err := r.view.list(&target)
		if err != nil {
			return outcome{}, err
		}
		vars[name] = list
	}
	return e.program.outcome(vars), nil
}

func (p *program) outcome(vars map[string]any) outcome {
	met, err := p.eval(vars)
	if err != nil {
		return outcome{saw: err.Error()}
	}
	return outcome{met: met, saw: fmt.Sprint(met)}
}

// String says what is expected.
func (e *Expect) String() string {
	switch {
	case e.Pods != nil:
		s := say("pods", e.Pods.wants(), e.Pods.Namespace, e.Pods.Selector, e.Pods.Name, e.Pods.Node)
		if m := e.Pods.MinRestarts; m != nil {
			s += fmt.Sprintf(", each restarted %d times or more", *m)
		}
		return s
	case e.Nodes != nil:
		return say("nodes", e.Nodes.wants(), e.Nodes.Selector)
	case e.Object != nil && e.Object.Absent:
		return fmt.Sprintf("no %s %s/%s", e.Object.Kind, e.Object.Namespace, e.Object.Name)
	case e.Object != nil:
		return fmt.Sprintf("%s %s/%s: %s", e.Object.Kind, e.Object.Namespace, e.Object.Name, e.Object.CEL)
	}
	return e.CEL
}

func say(what string, wants []number, of ...string) string {
	of = slices.DeleteFunc(of, func(s string) bool { return s == "" })
	var all []string
	for _, w := range wants {
		all = append(all, fmt.Sprintf("%s %d", w.name, w.want))
	}
	if len(of) > 0 {
		what += " (" + strings.Join(of, ", ") + ")"
	}
	return what + " " + strings.Join(all, ", ")
}

// expect waits until an expectation is met and has stayed so. The error is an
// *ExpectationError, or says why it cannot be looked at.
func (r *Runner) expect(ctx context.Context, e *Expect) error {
	began := time.Now()
	deadline := began.Add(e.Within.Duration)
	var seen []Seen
	var since time.Time
	for {
		changed := r.view.next()
		now, err := r.look(e)
		if err != nil {
			return err
		}
		if len(seen) == 0 || seen[len(seen)-1].Saw != now.saw {
			seen = append(seen, Seen{time.Since(began), now.saw})
		}
		held := !since.IsZero()
		switch {
		case now.met && !held:
			since = time.Now()
		case !now.met:
			since = time.Time{}
		}
		if now.met && time.Since(since) >= e.For.Duration {
			return nil
		}
		until := deadline
		if now.met {
			until = since.Add(e.For.Duration)
		} else if !time.Now().Before(deadline) {
			return &ExpectationError{Want: e.String(), Held: held, Within: e.Within.Duration, Seen: shorten(seen), Events: r.eventsOf(ctx, e)}
		}
		if err := waitFor(ctx, changed, until); err != nil {
			return err
		}
	}
}

// waitFor returns soon after a change, or at a time.
func waitFor(ctx context.Context, changed <-chan struct{}, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	case <-changed:
	}
	return sleep(ctx, min(settle, max(time.Until(until), 0)))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// shorten keeps the beginning and the end of what was seen.
func shorten(seen []Seen) []Seen {
	const half = 8
	if len(seen) <= 2*half+1 {
		return seen
	}
	gap := Seen{seen[half].After, fmt.Sprintf("… %d more changes …", len(seen)-2*half)}
	return slices.Concat(seen[:half], []Seen{gap}, seen[len(seen)-half:])
}
