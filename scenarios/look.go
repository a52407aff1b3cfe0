package scenarios

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// outcome is one look at an expectation.
type outcome struct {
	met bool
	saw string
}

// look evaluates an expectation now. The error says that it cannot be looked at
// at all.
func (r *Runner) look(ctx context.Context, e *Expect) (outcome, error) {
	r.view.catchUp(ctx, podResource, r.view.pods)
	r.view.catchUp(ctx, nodeResource, r.view.nodes)
	switch {
	case e.Pods != nil:
		return r.lookPods(e.Pods), nil
	case e.Nodes != nil:
		return r.lookNodes(e.Nodes), nil
	case e.Object != nil:
		return r.lookObject(ctx, e)
	case e.Rollout != nil:
		return r.lookRollout(ctx, e.Rollout)
	case e.File != nil:
		return r.lookFile(e.File)
	}
	return r.lookCEL(ctx, e)
}

// want is one count that is expected.
type want struct {
	name  string
	count *Count
}

// given are those that are set.
func given(all ...want) []want {
	return slices.DeleteFunc(all, func(w want) bool { return w.count == nil })
}

func (p *PodsExpect) wants() []want {
	return given(want{"count", p.Count}, want{"ready", p.Ready}, want{"running", p.Running}, want{"pending", p.Pending},
		want{"succeeded", p.Succeeded}, want{"failed", p.Failed}, want{"terminating", p.Terminating})
}

func (n *NodesExpect) wants() []want {
	return given(want{"count", n.Count}, want{"ready", n.Ready}, want{"notReady", n.NotReady})
}

func (r *Runner) lookPods(e *PodsExpect) outcome {
	got := map[string]int{}
	fewest, most := -1, 0
	restartsMet := true
	for _, p := range r.podsMatching(e.PodMatch) {
		got["count"]++
		if p.DeletionTimestamp != nil {
			got["terminating"]++
			continue
		}
		got[strings.ToLower(string(p.Status.Phase))]++
		if isReady(p) {
			got["ready"]++
		}
		n := restarts(p)
		most = max(most, n)
		if fewest < 0 || n < fewest {
			fewest = n
		}
		restartsMet = restartsMet && (e.Restarts == nil || e.Restarts.holds(n))
	}
	o := compare(e.wants(), got)
	if e.Restarts != nil {
		// Of no pod nothing can be said.
		o.met = o.met && restartsMet && fewest >= 0
		o.saw += fmt.Sprintf(", restarts %d to %d", max(fewest, 0), most)
	}
	return o
}

// compare tells what there is, and whether it is what was wanted.
func compare(wants []want, got map[string]int) outcome {
	o := outcome{met: true}
	var saw []string
	counted := false
	for _, w := range wants {
		o.met = o.met && w.count.holds(got[w.name])
		saw = append(saw, fmt.Sprintf("%s %d", w.name, got[w.name]))
		counted = counted || w.name == "count"
	}
	if !counted {
		saw = append(saw, fmt.Sprintf("of %d", got["count"]))
	}
	o.saw = strings.Join(saw, ", ")
	return o
}

func (r *Runner) podsMatching(m PodMatch) []*v1.Pod {
	match := m.compile()
	var pods []*v1.Pod
	for _, o := range r.view.pods.List() {
		if p := o.(*v1.Pod); match.matches(p) {
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

func (r *Runner) lookNodes(e *NodesExpect) outcome {
	got := map[string]int{}
	for _, n := range r.nodesMatching(e.Selector) {
		if e.except[n.Name] {
			continue
		}
		got["count"]++
		switch {
		case !nodeReady(n):
			got["notReady"]++
		case !e.usable || !newlyTainted(n):
			got["ready"]++
		}
	}
	return compare(e.wants(), got)
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

// newlyTainted reports whether the scheduler leaves a node out because it was not
// ready yet: the node lifecycle controller takes the taint away a moment later.
func newlyTainted(n *v1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.Key == v1.TaintNodeNotReady })
}

func nodeReady(n *v1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c v1.NodeCondition) bool {
		return c.Type == v1.NodeReady && c.Status == v1.ConditionTrue
	})
}

func (r *Runner) lookObject(ctx context.Context, e *Expect) (outcome, error) {
	object, err := r.view.object(ctx, &e.Object.Target)
	switch {
	case err != nil:
		return outcome{}, err
	case object == nil:
		return outcome{met: e.Object.Absent, saw: "no such object"}, nil
	case e.Object.Absent:
		return outcome{saw: "it is there"}, nil
	}
	return e.program.look(map[string]any{"object": object}), nil
}

// rollouts say how far a workload has come, and whether it has come to the end,
// as kubectl rollout status does.
var rollouts = map[string]func(*unstructured.Unstructured) outcome{
	"deployment": func(u *unstructured.Unstructured) outcome {
		want, updated := number(u, "spec", "replicas"), number(u, "status", "updatedReplicas")
		all, available := number(u, "status", "replicas"), number(u, "status", "availableReplicas")
		return outcome{updated >= want && all <= updated && available >= updated,
			fmt.Sprintf("updated %d, available %d, in all %d of %d", updated, available, all, want)}
	},
	"statefulset": func(u *unstructured.Unstructured) outcome {
		want, updated := number(u, "spec", "replicas"), number(u, "status", "updatedReplicas")
		ready := number(u, "status", "readyReplicas")
		partition := number(u, "spec", "updateStrategy", "rollingUpdate", "partition")
		return outcome{ready >= want && updated >= want-partition,
			fmt.Sprintf("updated %d, ready %d of %d", updated, ready, want)}
	},
	"daemonset": func(u *unstructured.Unstructured) outcome {
		want, updated := number(u, "status", "desiredNumberScheduled"), number(u, "status", "updatedNumberScheduled")
		available := number(u, "status", "numberAvailable")
		return outcome{updated >= want && available >= want,
			fmt.Sprintf("updated %d, available %d of %d", updated, available, want)}
	},
}

func number(u *unstructured.Unstructured, fields ...string) int64 {
	n, _, _ := unstructured.NestedInt64(u.Object, fields...)
	return n
}

func (r *Runner) lookRollout(ctx context.Context, t *Target) (outcome, error) {
	object, err := r.view.object(ctx, t)
	if err != nil || object == nil {
		return outcome{saw: "no such object"}, err
	}
	u := &unstructured.Unstructured{Object: object}
	o := rollouts[strings.ToLower(t.Kind)](u)
	if number(u, "status", "observedGeneration") < u.GetGeneration() {
		return outcome{saw: "its newest form is not yet worked on"}, nil
	}
	return o, nil
}

func (r *Runner) lookCEL(ctx context.Context, e *Expect) (outcome, error) {
	vars := map[string]any{"killed": r.killedNames()}
	for name, list := range map[string]func() ([]any, error){"pods": r.view.podObjects, "nodes": r.view.nodeObjects} {
		vars[name] = []any{}
		// Converting thousands of pods for nothing would be a waste.
		if !strings.Contains(e.program.text, name) {
			continue
		}
		objects, err := list()
		if err != nil {
			return outcome{}, err
		}
		vars[name] = objects
	}
	for name, target := range e.With {
		list, err := r.view.list(ctx, &target)
		if err != nil {
			return outcome{}, err
		}
		vars[name] = list
	}
	return e.program.look(vars), nil
}

// String says what is expected, in a line.
func (e *Expect) String() string { return strings.Join(strings.Fields(e.text()), " ") }

func (e *Expect) text() string {
	switch {
	case e.Pods != nil:
		p := e.Pods
		wants := p.wants()
		if p.Restarts != nil {
			wants = append(wants, want{"restarts", p.Restarts})
		}
		return say("pods", wants, p.Namespace, p.Selector, p.Name, p.Node)
	case e.Nodes != nil:
		return say("nodes", e.Nodes.wants(), e.Nodes.Selector)
	case e.Object != nil && e.Object.Absent:
		return "no " + e.Object.Target.String()
	case e.Object != nil:
		return e.Object.Target.String() + ": " + e.Object.CEL
	case e.Rollout != nil:
		return e.Rollout.String() + " rolled out"
	case e.File != nil:
		return e.File.String()
	}
	return e.CEL
}

// String is the object's kind and name.
func (t *Target) String() string {
	if t.Namespace != "" {
		return t.Kind + " " + t.Namespace + "/" + t.Name
	}
	return t.Kind + " " + t.Name
}

func say(what string, wants []want, of ...string) string {
	of = slices.DeleteFunc(of, func(s string) bool { return s == "" })
	var all []string
	for _, w := range wants {
		all = append(all, w.name+" "+w.count.String())
	}
	if len(of) > 0 {
		what += " (" + strings.Join(of, ", ") + ")"
	}
	return what + " " + strings.Join(all, ", ")
}
