package scenarios

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"nodelet/fakeruntime"
)

// world is a cluster made of fake clients: enough of one to play scenarios on.
// Deployments become pods, one each second, on the nodes in turn. What it does by
// itself it does at times at which nothing else happens.
type world struct {
	t       *testing.T
	typed   *fake.Clientset
	dynamic *dynamicfake.FakeDynamicClient
	nodes   []string
	// log is what the scenario has done.
	log        []string
	script     fakeruntime.Script
	violations []string
	// applied is called with each object that is applied, before it is kept.
	applied func(*unstructured.Unstructured) error
}

// aside keeps apart what the world and the runner do.
const aside = 200 * time.Millisecond

var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Pod"}, {Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Namespace"},
	{Version: "v1", Kind: "Node"}, {Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "batch", Version: "v1", Kind: "Job"},
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, typed: fake.NewClientset()}
	listKinds := map[schema.GroupVersionResource]string{}
	for _, k := range kinds {
		plural, _ := meta.UnsafeGuessKindToResource(k)
		listKinds[plural] = k.Kind + "List"
	}
	w.dynamic = dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), listKinds)
	w.dynamic.PrependReactor("patch", "*", w.patch)
	w.dynamic.PrependReactor("delete", "*", w.record)
	w.dynamic.PrependReactor("delete-collection", "*", w.record)
	return w
}

func (w *world) clients() clients {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, k := range kinds {
		scope := meta.RESTScopeNamespace
		if k.Kind == "Namespace" || k.Kind == "Node" {
			scope = meta.RESTScopeRoot
		}
		mapper.Add(k, scope)
	}
	return clients{w.typed, w.dynamic, mapper}
}

func (w *world) say(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// patch is what the API server does with patches.
func (w *world) patch(action clienttesting.Action) (bool, runtime.Object, error) {
	a := action.(clienttesting.PatchAction)
	if a.GetPatchType() != types.ApplyPatchType {
		w.say("patch %s %s/%s %s %s %s", a.GetResource().Resource, a.GetNamespace(), a.GetName(), a.GetSubresource(), a.GetPatchType(), a.GetPatch())
		return true, &unstructured.Unstructured{}, nil
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(a.GetPatch(), u); err != nil {
		return true, nil, err
	}
	w.say("apply %s %s/%s", a.GetResource().Resource, a.GetNamespace(), a.GetName())
	if w.applied != nil {
		if err := w.applied(u); err != nil {
			return true, nil, err
		}
	}
	u.SetNamespace(a.GetNamespace())
	if err := w.dynamic.Tracker().Create(a.GetResource(), u, a.GetNamespace()); err != nil && !apierrors.IsAlreadyExists(err) {
		return true, nil, err
	}
	if u.GetKind() == "Deployment" {
		replicas, _, _ := unstructured.NestedInt64(u.Object, "spec", "replicas")
		for i := range int(replicas) {
			time.AfterFunc(time.Duration(i+1)*time.Second+aside, func() { w.runPod(u.GetName(), i) })
		}
	}
	return true, u, nil
}

// record notes a deletion and lets it happen.
func (w *world) record(action clienttesting.Action) (bool, runtime.Object, error) {
	switch a := action.(type) {
	case clienttesting.DeleteAction:
		grace := "its own"
		if g := a.GetDeleteOptions().GracePeriodSeconds; g != nil {
			grace = fmt.Sprint(*g)
		}
		w.say("delete %s %s/%s, grace %s, %s", a.GetResource().Resource, a.GetNamespace(), a.GetName(), grace,
			*a.GetDeleteOptions().PropagationPolicy)
	case clienttesting.DeleteCollectionAction:
		w.say("delete %s %s with %s", a.GetResource().Resource, a.GetNamespace(), a.GetListRestrictions().Labels)
	}
	return false, nil, nil
}

// runPod makes a pod that runs and is ready, on the nodes in turn.
func (w *world) runPod(app string, i int) {
	p := &v1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", app, i), UID: types.UID(fmt.Sprintf("%s-%d", app, i)),
			Labels: map[string]string{"app": app}},
		Spec: v1.PodSpec{NodeName: w.nodes[i%len(w.nodes)]},
		Status: v1.PodStatus{Phase: v1.PodRunning, Conditions: []v1.PodCondition{
			{Type: v1.PodReady, Status: v1.ConditionTrue}}},
	}
	if _, err := w.typed.CoreV1().Pods("default").Create(context.Background(), p, metav1.CreateOptions{}); err != nil {
		w.t.Errorf("creating a pod: %v", err)
	}
}

func (w *world) setReady(name string, ready v1.ConditionStatus) {
	node := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}},
		Status: v1.NodeStatus{Conditions: []v1.NodeCondition{{Type: v1.NodeReady, Status: ready}}}}
	nodes := w.typed.CoreV1().Nodes()
	_, err := nodes.Create(context.Background(), node, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = nodes.Update(context.Background(), node, metav1.UpdateOptions{})
	}
	if err != nil {
		w.t.Errorf("node %s: %v", name, err)
	}
}

// event makes an event of a pod.
func (w *world) event(kind, name, reason, message string, count int32) {
	_, err := w.typed.CoreV1().Events("default").Create(context.Background(), &v1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name + reason, Namespace: "default", CreationTimestamp: metav1.Now()},
		InvolvedObject: v1.ObjectReference{Kind: kind, Namespace: "default", Name: name, UID: types.UID(name)},
		Type:           v1.EventTypeWarning, Reason: reason, Message: message, Count: count, LastTimestamp: metav1.Now(),
	}, metav1.CreateOptions{})
	if err != nil {
		w.t.Errorf("creating an event: %v", err)
	}
}

func (w *world) RESTConfig() *rest.Config { return nil }

// AddNodes adds nodes that are ready a second later.
func (w *world) AddNodes(_ context.Context, g NodeGroup) error {
	for i := range g.Count {
		name := fmt.Sprintf("%s-%04d", g.Name, i)
		w.nodes = append(w.nodes, name)
		w.setReady(name, v1.ConditionFalse)
		time.AfterFunc(time.Second+aside, func() { w.setReady(name, v1.ConditionTrue) })
	}
	return nil
}

// KillNode has the cluster notice 5 s later.
func (w *world) KillNode(name, fault string) error {
	w.say("kill %s by %s", name, fault)
	time.AfterFunc(5*time.Second, func() { w.setReady(name, v1.ConditionUnknown) })
	return nil
}

func (w *world) RestoreNode(name string) error {
	w.say("restore %s", name)
	time.AfterFunc(2*time.Second, func() { w.setReady(name, v1.ConditionTrue) })
	return nil
}

func (w *world) SetScript(script fakeruntime.Script) { w.script = script }
func (w *world) Violations() []string                { return w.violations }

// play plays a scenario on the world, in the time of the test's bubble.
func (w *world) play(ctx context.Context, text string, progress func(Update)) *Result {
	w.t.Helper()
	all, err := Decode("s.yaml", []byte(head+text))
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := play(ctx, all[0], w, w.clients(), Hooks{Progress: progress})
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}
