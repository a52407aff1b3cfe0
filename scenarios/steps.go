package scenarios

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
)

// fieldManager is who applies objects.
const fieldManager = "sim"

// nodesWithin is how long new nodes may take to be ready.
const nodesWithin = 2 * time.Minute

// action is one step, ready to be done.
type action struct {
	name string
	do   func(context.Context) error
}

// steps are the scenario's, after the start of its nodes.
func (r *Runner) steps() []action {
	all := []action{{name: "start nodes", do: r.startNodes}}
	for i := range r.scenario.Steps {
		s := &r.scenario.Steps[i]
		all = append(all, action{name: s.title(), do: func(ctx context.Context) error { return r.do(ctx, s) }})
	}
	return all
}

// StepNumber is the number, from 1, of the step that has this number, name or
// title; 0 if there is none.
func (s *Scenario) StepNumber(which string) int {
	for i := range s.Steps {
		if strconv.Itoa(i+1) == which || s.Steps[i].title() == which {
			return i + 1
		}
	}
	return 0
}

// maxTitle bounds the titles of steps that have no name, in letters.
const maxTitle = 72

// title is a step's name, or what it does.
func (s *Step) title() string {
	if s.Name != "" {
		return s.Name
	}
	return cut(s.summary(), maxTitle)
}

func (s *Step) summary() string {
	switch {
	case s.Apply != nil:
		return "apply " + strings.Join(s.Apply.Files, ", ") + objectNames(s.Apply.Objects)
	case s.Delete != nil:
		return "delete " + cmp.Or(strings.Join(s.Delete.Files, ", "), s.Delete.Kind+" "+s.Delete.Name+s.Delete.Selector)
	case s.Scale != nil:
		return fmt.Sprintf("scale %s %s to %d", s.Scale.Kind, s.Scale.Target.Name, *s.Scale.Replicas)
	case s.Patch != nil:
		return "patch " + s.Patch.Kind + " " + s.Patch.Target.Name
	case s.Wait != nil:
		return "wait " + s.Wait.String()
	case s.Expect != nil:
		return "expect " + s.Expect.String()
	case s.KillNodes != nil:
		return "kill nodes"
	case s.RestoreNodes != nil:
		return "restore nodes"
	case s.AddNodes != nil:
		return fmt.Sprintf("add %d nodes", s.AddNodes.Count)
	}
	return "set behaviors"
}

func objectNames(objects []Object) string {
	var names []string
	for _, o := range objects {
		u := unstructured.Unstructured{Object: o}
		names = append(names, u.GetKind()+" "+u.GetName())
	}
	return strings.Join(names, ", ")
}

func (r *Runner) do(ctx context.Context, s *Step) error {
	switch {
	case s.Apply != nil:
		return r.apply(ctx, s.Apply.loaded)
	case s.Delete != nil:
		return r.delete(ctx, s.Delete)
	case s.Scale != nil:
		patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, *s.Scale.Replicas)
		return r.patch(ctx, &s.Scale.Target, types.MergePatchType, []byte(patch), "scale")
	case s.Patch != nil:
		return r.patchStep(ctx, s.Patch)
	case s.Wait != nil:
		return sleep(ctx, s.Wait.Duration)
	case s.Expect != nil:
		return r.expect(ctx, s.Expect)
	case s.KillNodes != nil:
		return r.killNodes(s.KillNodes)
	case s.RestoreNodes != nil:
		return r.restoreNodes(s.RestoreNodes)
	case s.AddNodes != nil:
		return r.addNodes(ctx, *s.AddNodes)
	case s.SetBehaviors != nil:
		r.cluster.SetScript(Script(*s.SetBehaviors))
	}
	return nil
}

func (r *Runner) startNodes(ctx context.Context) error { return r.addNodes(ctx, r.scenario.Nodes...) }

// addNodes starts nodes and waits until they are ready, and pods may be bound to them.
func (r *Runner) addNodes(ctx context.Context, groups ...NodeGroup) error {
	before := map[string]bool{}
	for _, n := range r.nodesMatching("") {
		before[n.Name] = true
	}
	added := 0
	for _, g := range groups {
		if err := r.cluster.AddNodes(ctx, g); err != nil {
			return fmt.Errorf("adding nodes %s: %w", g.Name, err)
		}
		added += g.Count
	}
	ready := &Count{Op: ">=", N: added}
	return r.expect(ctx, &Expect{Nodes: &NodesExpect{Ready: ready, except: before, usable: true}, Within: Duration{nodesWithin}})
}

// resource returns the client of an object's kind in its namespace, and the kind's
// resource.
func (r *Runner) resource(apiVersion, kind, namespace string) (dynamic.ResourceInterface, schema.GroupVersionResource, error) {
	gvr, namespaced, err := resolve(r.mapper, apiVersion, kind)
	switch {
	case err != nil:
		return nil, gvr, err
	case namespaced:
		return r.dynamic.Resource(gvr).Namespace(cmp.Or(namespace, metav1.NamespaceDefault)), gvr, nil
	}
	return r.dynamic.Resource(gvr), gvr, nil
}

func (r *Runner) apply(ctx context.Context, objects []map[string]any) error {
	for _, o := range objects {
		u := &unstructured.Unstructured{Object: o}
		client, gvr, err := r.resource(u.GetAPIVersion(), u.GetKind(), u.GetNamespace())
		if err != nil {
			return err
		}
		applied, err := applyOne(ctx, client, u)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", u.GetKind(), u.GetName(), err)
		}
		r.view.wrote(gvr, applied)
	}
	return nil
}

// A new namespace has its service account a moment later, and takes no pod
// before.
const (
	accountWithin = 15 * time.Second
	accountEvery  = 200 * time.Millisecond
)

func applyOne(ctx context.Context, client dynamic.ResourceInterface, u *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	began := time.Now()
	for {
		applied, err := client.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if !noAccountYet(err) || time.Since(began) > accountWithin {
			return applied, err
		}
		if err := sleep(ctx, accountEvery); err != nil {
			return nil, err
		}
	}
}

// noAccountYet reports whether a pod was refused for want of a service account.
func noAccountYet(err error) bool {
	return apierrors.IsForbidden(err) && strings.Contains(err.Error(), "error looking up service account")
}

func (r *Runner) delete(ctx context.Context, d *Delete) error {
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{GracePeriodSeconds: d.GracePeriodSeconds, PropagationPolicy: &background}
	if len(d.Files) > 0 {
		for _, o := range slices.Backward(d.loaded) {
			u := &unstructured.Unstructured{Object: o}
			client, _, err := r.resource(u.GetAPIVersion(), u.GetKind(), u.GetNamespace())
			if err != nil {
				return err
			}
			if err := client.Delete(ctx, u.GetName(), options); err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("deleting %s %s: %w", u.GetKind(), u.GetName(), err)
			}
		}
		return nil
	}
	client, _, err := r.resource(d.APIVersion, d.Kind, d.Namespace)
	if err != nil {
		return err
	}
	if d.Selector != "" {
		err = client.DeleteCollection(ctx, options, metav1.ListOptions{LabelSelector: d.Selector})
	} else {
		err = client.Delete(ctx, d.Name, options)
	}
	if err != nil {
		return fmt.Errorf("deleting %s %s%s: %w", d.Kind, d.Name, d.Selector, err)
	}
	return nil
}

func (r *Runner) patchStep(ctx context.Context, p *Patch) error {
	data, err := json.Marshal(p.Patch)
	if err != nil {
		return fmt.Errorf("encoding the patch of %s %s: %w", p.Kind, p.Target.Name, err)
	}
	kind := map[string]types.PatchType{"merge": types.MergePatchType, "strategic": types.StrategicMergePatchType,
		"json": types.JSONPatchType}[p.Type]
	return r.patch(ctx, &p.Target, kind, data, p.Subresource)
}

func (r *Runner) patch(ctx context.Context, t *Target, kind types.PatchType, data []byte, subresource string) error {
	client, gvr, err := r.resource(t.APIVersion, t.Kind, t.Namespace)
	if err != nil {
		return err
	}
	var subresources []string
	if subresource != "" {
		subresources = []string{subresource}
	}
	patched, err := client.Patch(ctx, t.Name, kind, data, metav1.PatchOptions{FieldManager: fieldManager}, subresources...)
	if err != nil {
		return fmt.Errorf("patching %s %s: %w", t.Kind, t.Name, err)
	}
	r.view.wrote(gvr, patched)
	return nil
}

func (r *Runner) killNodes(k *KillNodes) error {
	names := r.victims(k)
	if len(k.Names) == 0 && len(names) < k.Count {
		return fmt.Errorf("%d nodes are to be killed, %d are there to be", k.Count, len(names))
	}
	for _, name := range names {
		if err := r.cluster.KillNode(name, k.Fault); err != nil {
			return err
		}
		r.mu.Lock()
		r.killed = append(r.killed, name)
		r.mu.Unlock()
	}
	r.detail = strings.Join(names, ", ")
	return nil
}

// victims are the nodes that a step kills.
func (r *Runner) victims(k *KillNodes) []string {
	var names []string
	switch {
	case k.Selector != "":
		for _, n := range r.nodesMatching(k.Selector) {
			names = append(names, n.Name)
		}
		slices.Sort(names)
	case k.Running != nil:
		names = r.fullest(*k.Running)
	default:
		return k.Names
	}
	down := r.killedNames()
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(down, name) })
	return names[:min(k.Count, len(names))]
}

// fullest are the nodes that run such pods, those with the most of them first.
func (r *Runner) fullest(m PodMatch) []string {
	pods := map[string]int{}
	for _, p := range r.podsMatching(m) {
		if p.Spec.NodeName != "" && p.Status.Phase == v1.PodRunning && p.DeletionTimestamp == nil {
			pods[p.Spec.NodeName]++
		}
	}
	return slices.SortedFunc(maps.Keys(pods), func(a, b string) int {
		return cmp.Or(cmp.Compare(pods[b], pods[a]), cmp.Compare(a, b))
	})
}

func (r *Runner) restoreNodes(step *RestoreNodes) error {
	names := step.Names
	if len(names) == 0 {
		names = r.killedNames()
	}
	for _, name := range names {
		if err := r.cluster.RestoreNode(name); err != nil {
			return err
		}
		r.mu.Lock()
		r.killed = slices.DeleteFunc(r.killed, func(k string) bool { return k == name })
		r.mu.Unlock()
	}
	r.detail = strings.Join(names, ", ")
	return nil
}

// killedNames are the nodes that are killed now.
func (r *Runner) killedNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.killed...)
}
