package scenarios

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// web applies a Deployment of so many pods.
func web(replicas int) string {
	return fmt.Sprintf(`- name: roll out
  apply:
    objects:
    - apiVersion: apps/v1
      kind: Deployment
      metadata: {name: web}
      spec: {replicas: %d}
`, replicas)
}

// steps says how each step ended.
func steps(r *Result) string {
	var b strings.Builder
	for i := range r.Steps {
		s := &r.Steps[i]
		fmt.Fprintf(&b, "%s: %s", s.Name, s.status())
		if !s.Skipped {
			fmt.Fprintf(&b, " after %v", s.Took.Round(100*time.Millisecond))
		}
		if s.Detail != "" {
			fmt.Fprintf(&b, " (%s)", s.Detail)
		}
		if s.Err != nil {
			fmt.Fprintf(&b, ": %v", s.Err)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.play(t.Context(), `nodes:
- {name: a, count: 3}
steps:
`+web(7)+`- name: all are ready
  expect: {pods: {selector: app=web, count: 7, ready: 7}, within: 10s}
- name: one is lost
  killNodes: {running: {selector: app=web}}
- expect: {nodes: {ready: 2, notReady: ">0"}, within: 10s}
- expect: {cel: "pods.filter(p, p.spec.nodeName in killed).size() == 3", within: 1s}
- addNodes: {name: b, count: 2}
- restoreNodes: {}
- expect: {nodes: {ready: 5}, within: 5s, for: 3s}
- wait: 1m
`, nil)
		want := `start nodes: passed after 1.3s
roll out: passed after 0s
all are ready: passed after 7.3s
one is lost: passed after 0s (a-0000)
expect nodes ready 2, notReady > 0: passed after 5.1s
expect pods.filter(p, p.spec.nodeName in killed).size() == 3: passed after 0s
add 2 nodes: passed after 1.3s
restore nodes: passed after 0s (a-0000)
expect nodes ready 5: passed after 5.1s
wait 1m0s: passed after 1m0s
`
		if diff := cmp.Diff(want, steps(r)); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
		if !r.Passed() {
			t.Errorf("not passed: %v", r.Err())
		}
		wantLog := []string{"apply deployments default/web", "kill a-0000 by power", "restore a-0000"}
		if diff := cmp.Diff(wantLog, w.log); diff != "" {
			t.Errorf("done (-want +got):\n%s", diff)
		}
	})
}

func TestExpectationNotMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		time.AfterFunc(4*time.Second, func() {
			w.event("Pod", "web-0", "BackOff", "Back-off restarting container", 3)
			w.event("Pod", "other-0", "BackOff", "of another pod", 1)
		})
		w.typed.CoreV1().Pods("default").Create(t.Context(), &v1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "default", UID: "web-0", Labels: map[string]string{"app": "web"}},
			Status:     v1.PodStatus{Phase: v1.PodPending},
		}, metav1.CreateOptions{})
		r := w.play(t.Context(), `nodes:
- {name: a, count: 1}
steps:
- expect: {pods: {selector: app=web, ready: 1}, within: 10s}
- wait: 1s
`, nil)
		var e *ExpectationError
		if !errors.As(r.Err(), &e) {
			t.Fatalf("got %v, want an expectation's error", r.Err())
		}
		want := &ExpectationError{Want: "pods (app=web) ready 1", Within: 10 * time.Second,
			Seen: []Seen{{0, "ready 0, of 1"}}, Changes: 1,
			Events: []string{"   -7.2s  Warning BackOff  pod/web-0  Back-off restarting container (x3)"}}
		if diff := cmp.Diff(want, e); diff != "" {
			t.Errorf("error (-want +got):\n%s", diff)
		}
		if s := steps(r); !strings.HasSuffix(s, "wait 1s: skipped\n") {
			t.Errorf("steps:\n%s", s)
		}
	})
}

func TestSeenOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.play(t.Context(), `nodes:
- {name: a, count: 1}
steps:
`+web(2)+`- expect: {pods: {selector: app=web, ready: ">= 3"}, within: 5s}
`, nil)
		var e *ExpectationError
		if !errors.As(r.Err(), &e) {
			t.Fatalf("got %v, want an expectation's error", r.Err())
		}
		var seen []string
		for _, s := range e.Seen {
			seen = append(seen, fmt.Sprintf("%v %s", s.After.Round(100*time.Millisecond), s.Saw))
		}
		want := []string{"0s ready 0, of 0", "1.3s ready 1, of 1", "2.3s ready 2, of 2"}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("seen (-want +got):\n%s", diff)
		}
		if want := "not within 5s: expected pods (app=web) ready >= 3, last saw ready 2, of 2"; e.Error() != want {
			t.Errorf("got %q, want %q", e.Error(), want)
		}
	})
}

// TestShorten: many changes at the beginning do not hide the later ones.
func TestShorten(t *testing.T) {
	var seen []Seen
	for i := range 1000 {
		seen = append(seen, Seen{time.Duration(i) * time.Millisecond, fmt.Sprint(i)})
	}
	for i := range 20 {
		seen = append(seen, Seen{time.Duration(i+1) * time.Minute, fmt.Sprintf("late %d", i)})
	}
	got := shorten(seen)
	if len(got) > newestSeen+olderSeen || len(got) < newestSeen+olderSeen/2 {
		t.Errorf("%d are left", len(got))
	}
	if got[0] != seen[0] || got[1].Saw != "late 1" {
		t.Errorf("it begins with %v", got[:2])
	}
	if diff := cmp.Diff(seen[len(seen)-newestSeen:], got[len(got)-newestSeen:]); diff != "" {
		t.Errorf("the newest (-want +got):\n%s", diff)
	}
	if got := shorten(seen[:5]); len(got) != 5 {
		t.Errorf("few were made %d", len(got))
	}
}

// TestFor: what has to stay so is waited for again when it does not, as long as
// there is time.
func TestFor(t *testing.T) {
	const within5for10 = "nodes:\n- {name: a, count: 1}\nsteps:\n- expect: {nodes: {ready: 1}, within: 5s, for: 10s}\n"
	for _, test := range []struct {
		name string
		// down and up are when the node goes and comes back, after the step began.
		down, up time.Duration
		took     time.Duration
		err      string
	}{
		{"it stays", time.Hour, time.Hour, 10 * time.Second, ""},
		{"it comes back in time", 2 * time.Second, 4 * time.Second, 14 * time.Second, ""},
		{"it does not come back in time", 2 * time.Second, 8 * time.Second, 5 * time.Second,
			"not for 10s: expected nodes ready 1, last saw ready 0, of 1"},
		{"it goes at the end", 9 * time.Second, time.Hour, 9 * time.Second,
			"not for 10s: expected nodes ready 1, last saw ready 0, of 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				const start = 1250 * time.Millisecond
				down := time.AfterFunc(start+test.down, func() { w.setReady("a-0000", v1.ConditionFalse) })
				up := time.AfterFunc(start+test.up, func() { w.setReady("a-0000", v1.ConditionTrue) })
				r := w.play(t.Context(), within5for10, nil)
				down.Stop()
				up.Stop()
				if got := r.Steps[1].Took.Round(time.Second); got != test.took {
					t.Errorf("took %v, want %v", got, test.took)
				}
				if err := r.Err(); test.err == "" && err != nil || test.err != "" && (err == nil || err.Error() != test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
			})
		})
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newWorld(t).play(t.Context(), "timeout: 20s\nsteps:\n- expect: {nodes: {count: 5}, within: 1m}\n- wait: 1s\n", nil)
		want := `start nodes: passed after 0s
expect nodes count 5: failed after 20s: the scenario's timeout of 20s is over: expected nodes count 5, last saw count 0
wait 1s: skipped
`
		if diff := cmp.Diff(want, steps(r)); diff != "" {
			t.Errorf("steps (-want +got):\n%s", diff)
		}
	})
}

// TestInterrupted: when somebody else ends the scenario, that is what is told.
func TestInterrupted(t *testing.T) {
	for _, step := range []string{"expect: {nodes: {count: 5}}", "wait: 30s"} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(10*time.Second, func() { cancel(errors.New("the cluster is gone")) })
			r := newWorld(t).play(ctx, "steps:\n- "+step+"\n", nil)
			if err := r.Err(); err == nil || err.Error() != "the cluster is gone" {
				t.Errorf("%s: got %v", step, err)
			}
			if got := r.Steps[1].Took; got != 10*time.Second {
				t.Errorf("%s: took %v", step, got)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var lines []string
		w.play(t.Context(), "time: real\nnodes:\n- {name: a, count: 2}\nsteps:\n"+web(2)+"- expect: {pods: {ready: 2}}\n", func(u Update) {
			line := fmt.Sprintf("%d/%d %s: nodes %d/%d, pods %d/%d", u.Step, u.Steps, u.Name, u.NodesReady, u.Nodes, u.PodsReady, u.Pods)
			if u.Done {
				line += " done"
			}
			if n := len(lines); n == 0 || lines[n-1] != line {
				lines = append(lines, line)
			}
		})
		want := []string{
			"0/2 start nodes: nodes 0/0, pods 0/0",
			"0/2 start nodes: nodes 0/2, pods 0/0",
			"0/2 start nodes: nodes 2/2, pods 0/0 done",
			"1/2 roll out: nodes 2/2, pods 0/0",
			"1/2 roll out: nodes 2/2, pods 0/0 done",
			"2/2 expect pods ready 2: nodes 2/2, pods 0/0",
			"2/2 expect pods ready 2: nodes 2/2, pods 1/1",
			"2/2 expect pods ready 2: nodes 2/2, pods 2/2 done",
		}
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	})
}

// TestRequests: what is sent to the API server.
func TestRequests(t *testing.T) {
	for _, test := range []struct {
		step string
		want []string
	}{
		{"scale: {kind: Deployment, name: x, replicas: 3}",
			[]string{`patch deployments default/x scale application/merge-patch+json {"spec":{"replicas":3}}`}},
		{"patch: {kind: deployments, namespace: n, name: x, type: strategic, patch: {a: [1]}}",
			[]string{`patch deployments n/x  application/strategic-merge-patch+json {"a":[1]}`}},
		{"patch: {apiVersion: v1, kind: Node, name: x, type: json, subresource: status, patch: [{op: remove, path: /a}]}",
			[]string{`patch nodes /x status application/json-patch+json [{"op":"remove","path":"/a"}]`}},
		{"apply: {objects: [{apiVersion: v1, kind: Namespace, metadata: {name: ns}}, {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: ns}}]}",
			[]string{"apply namespaces /ns", "apply configmaps ns/c"}},
		{"delete: {kind: Pod, selector: a=b, namespace: n}",
			[]string{"delete pods n with a=b"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if r := w.play(t.Context(), "steps:\n- "+test.step+"\n", nil); !r.Passed() {
				t.Errorf("%s: %v", test.step, r.Err())
			}
			if diff := cmp.Diff(test.want, w.log); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.step, diff)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.play(t.Context(), `steps:
- apply: {objects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}]}
- expect: {object: {kind: ConfigMap, name: c, cel: object.metadata.name == "c"}, within: 1s}
# The fake's watches begin a moment after its lists.
- wait: 1s
- delete: {kind: ConfigMap, name: c, gracePeriodSeconds: 0}
- expect: {object: {kind: ConfigMap, name: c, absent: true}, within: 1s}
- delete: {kind: ConfigMap, name: c}
`, nil)
		if got, want := fmt.Sprint(r.Err()), `deleting ConfigMap c: configmaps "c" not found`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := w.log[1], "delete configmaps default/c, grace 0, Background"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// TestNewNamespace: a pod is refused until its namespace has a service account.
func TestNewNamespace(t *testing.T) {
	refused := func(after time.Duration) func(*unstructured.Unstructured) error {
		began := time.Now()
		return func(*unstructured.Unstructured) error {
			if time.Since(began) >= after {
				return nil
			}
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p",
				errors.New(`error looking up service account n/default: serviceaccount "default" not found`))
		}
	}
	for after, passes := range map[time.Duration]bool{3 * time.Second: true, time.Minute: false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.applied = refused(after)
			r := w.play(t.Context(), "steps:\n- apply: {objects: [{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: ns}}]}\n", nil)
			if r.Passed() != passes {
				t.Errorf("refused for %v: %v", after, r.Err())
			}
		})
	}
}

func TestKillNodes(t *testing.T) {
	for _, test := range []struct {
		step, detail, err string
	}{
		{"{names: [a-0002, a-0001], fault: agent}", "a-0002, a-0001", ""},
		{"{selector: name!=a-0000, count: 2}", "a-0001, a-0002", ""},
		{"{running: {selector: app=web}, count: 2}", "a-0000, a-0001", ""},
		{"{running: {node: a-0002}}", "a-0002", ""},
		{`{running: {name: "web-[1-4]"}}`, "a-0001", ""},
		{"{selector: name=x}", "", "1 nodes are to be killed, 0 are there to be"},
		{"{running: {}, count: 4}", "", "4 nodes are to be killed, 3 are there to be"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			r := w.play(t.Context(), "nodes:\n- {name: a, count: 3}\nsteps:\n"+web(5)+
				"- expect: {pods: {ready: 5}}\n- killNodes: "+test.step+"\n", nil)
			s := r.Steps[3]
			if s.Detail != test.detail || test.err == "" && s.Err != nil || test.err != "" && (s.Err == nil || s.Err.Error() != test.err) {
				t.Errorf("%s: got %q, %v; want %q, %q", test.step, s.Detail, s.Err, test.detail, test.err)
			}
		})
	}
}

// TestKilledNodesAreNotKilledAgain, though they may not show it yet.
func TestKilledNodesAreNotKilledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.play(t.Context(), "nodes:\n- {name: a, count: 2}\nsteps:\n- killNodes: {selector: name}\n- killNodes: {selector: name}\n- restoreNodes: {names: [a-0001]}\n- restoreNodes: {}\n", nil)
		if !r.Passed() {
			t.Fatal(r.Err())
		}
		want := []string{"kill a-0000 by power", "kill a-0001 by power", "restore a-0001", "restore a-0000"}
		if diff := cmp.Diff(want, w.log); diff != "" {
			t.Errorf("done (-want +got):\n%s", diff)
		}
	})
}

// TestViolations: a scenario in which agents broke a rule has not passed.
func TestViolations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.violations = []string{"node a: twice"}
		if r := w.play(t.Context(), oneStep, nil); r.Passed() || r.Err().Error() != "an agent broke a rule: node a: twice" {
			t.Errorf("got %v", r.Err())
		}
	})
}

func TestUnknownKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newWorld(t).play(t.Context(), "steps:\n- expect: {object: {kind: Gadget, name: x, absent: true}}\n", nil)
		if err := r.Err(); err == nil || !strings.HasPrefix(err.Error(), "the cluster has no kind Gadget: ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRollouts(t *testing.T) {
	for _, test := range []struct {
		kind, object string
		want         outcome
	}{
		{"deployment", `{"spec": {"replicas": 3}, "status": {"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}}`,
			outcome{false, "updated 3, available 3, in all 4 of 3"}},
		{"deployment", `{"spec": {"replicas": 3}, "status": {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}}`,
			outcome{false, "updated 3, available 2, in all 3 of 3"}},
		{"deployment", `{"spec": {"replicas": 3}, "status": {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}}`,
			outcome{true, "updated 3, available 3, in all 3 of 3"}},
		{"statefulset", `{"spec": {"replicas": 3}, "status": {"readyReplicas": 3, "updatedReplicas": 2}}`,
			outcome{false, "updated 2, ready 3 of 3"}},
		{"statefulset", `{"spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 1}}}, "status": {"readyReplicas": 3, "updatedReplicas": 2}}`,
			outcome{true, "updated 2, ready 3 of 3"}},
		{"daemonset", `{"status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 2}}`,
			outcome{false, "updated 3, available 2 of 3"}},
		{"daemonset", `{"status": {"desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}}`,
			outcome{true, "updated 3, available 3 of 3"}},
	} {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(`{"apiVersion": "apps/v1", "kind": "x", ` + test.object[1:])); err != nil {
			t.Fatal(err)
		}
		if got := rollouts[test.kind](u); got != test.want {
			t.Errorf("%s %s: got %+v, want %+v", test.kind, test.object, got, test.want)
		}
	}
}

// TestRolloutOfOldGeneration: before the controller has seen the newest spec its
// status says nothing.
func TestRolloutOfOldGeneration(t *testing.T) {
	for observed, passes := range map[int]bool{1: false, 2: true} {
		synctest.Test(t, func(t *testing.T) {
			r := newWorld(t).play(t.Context(), fmt.Sprintf(`steps:
- apply:
    objects:
    - apiVersion: apps/v1
      kind: Deployment
      metadata: {name: x, generation: 2}
      spec: {replicas: 0}
      status: {observedGeneration: %d}
- expect: {rollout: {kind: Deployment, name: x}, within: 1s}
`, observed), nil)
			if r.Passed() != passes {
				t.Errorf("observed %d: %v", observed, r.Err())
			}
		})
	}
}

func TestLookPods(t *testing.T) {
	pod := func(name, node string, phase v1.PodPhase, restarts int32, terminating bool) *v1.Pod {
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}, Spec: v1.PodSpec{NodeName: node},
			Status: v1.PodStatus{Phase: phase, ContainerStatuses: []v1.ContainerStatus{{RestartCount: restarts}}}}
		if terminating {
			p.DeletionTimestamp = &metav1.Time{}
		}
		return p
	}
	for _, test := range []struct {
		expect string
		passes bool
		saw    string
	}{
		{"{count: 5, running: 2, pending: 1, failed: 1, terminating: 1}", true, "count 5, running 2, pending 1, failed 1, terminating 1"},
		{"{running: 3}", false, "running 2, of 5"},
		{"{node: a-*, running: 1}", true, "running 1, of 2"},
		{"{name: 'web-?', running: 2}", true, "running 2, of 3"},
		{"{name: 'web-?', restarts: '>= 2'}", true, "of 3, restarts 2 to 5"},
		{"{name: 'web-?', restarts: '>= 3'}", false, "of 3, restarts 2 to 5"},
		{"{name: none, restarts: '>= 0'}", false, "of 0, restarts 0 to 0"},
		{"{namespace: other, count: 0}", true, "count 0"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			for _, p := range []*v1.Pod{
				pod("web-1", "a-1", v1.PodRunning, 2, false), pod("web-2", "b-1", v1.PodRunning, 5, false),
				pod("web-3", "a-2", v1.PodRunning, 0, true), pod("p", "", v1.PodPending, 0, false), pod("f", "b-1", v1.PodFailed, 0, false),
			} {
				w.typed.CoreV1().Pods("default").Create(t.Context(), p, metav1.CreateOptions{})
			}
			all, err := Decode("s.yaml", []byte(head+"steps:\n- expect: {pods: "+test.expect+", within: 0s}\n"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			r := &Runner{clients: w.clients()}
			if r.view, err = newView(ctx, ctx, r.clients, nil); err != nil {
				t.Fatal(err)
			}
			got, err := r.look(ctx, all[0].Steps[0].Expect)
			if err != nil || got.met != test.passes || got.saw != test.saw {
				t.Errorf("%s: got %+v, %v; want %v, %s", test.expect, got, err, test.passes, test.saw)
			}
			cancel()
			r.view.watches.Wait()
		})
	}
}

// files are what is in the pods' volumes, by the pod's UID.
type files struct {
	*world
	mu   sync.Mutex
	has  map[types.UID]string
	fail error
}

func (f *files) ReadVolume(node string, uid types.UID, volume, path string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content, ok := f.has[uid]
	switch {
	case f.fail != nil:
		return "", f.fail
	case node != "n-0000" || volume != "config" || path != "a/b" || !ok:
		return "", fs.ErrNotExist
	}
	return content, nil
}

// Files are looked at also while nothing else changes.
func TestFile(t *testing.T) {
	const deploy = `nodes: [{name: n, count: 1}]
steps:
- apply: {objects: [{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2}}]}
- expect: {pods: {ready: 2}}
- expect: `
	for _, test := range []struct {
		expect, want string
		fail         error
	}{
		{expect: `{file: {selector: app=web, volume: config, path: a/b, content: new}}`},
		{expect: `{file: {volume: config, path: a/b, content: old, pods: 1}, within: 4s}`},
		{expect: `{file: {volume: config, path: other, absent: true}}`},
		{expect: `{file: {volume: config, path: a/b, content: new, pods: ">= 2"}, within: 4s}`,
			want: `not within 4s: expected file pods >= 2 config/a/b: "new", last saw "new" in 1, "old" in 1, of 2`},
		{expect: `{file: {volume: config, path: a/b, absent: true}, within: 1m}`,
			want: `not within 1m0s: expected file config/a/b: none, last saw "new" in 2, of 2`},
		{expect: `{file: {name: other, volume: config, path: a/b, content: x}, within: 1s}`,
			want: `not within 1s: expected file (other) config/a/b: "x", last saw no pods`},
		{expect: `{file: {volume: config, path: a/b, content: x}}`, fail: errors.New("broken"),
			want: "reading a/b of volume config of pod default/web-"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			f := &files{world: w, has: map[types.UID]string{"web-0": "old", "web-1": "old"}, fail: test.fail}
			for i, uid := range []types.UID{"web-0", "web-1"} {
				time.AfterFunc(time.Duration(5*i+5)*time.Second+aside, func() {
					f.mu.Lock()
					defer f.mu.Unlock()
					f.has[uid] = "new"
				})
			}
			all, err := Decode("s.yaml", []byte(head+deploy+test.expect))
			if err != nil {
				t.Fatal(err)
			}
			result, err := play(t.Context(), all[0], f, w.clients(), Hooks{})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := result.Err(); err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("%s: %s\nwant %s", test.expect, got, test.want)
			}
			time.Sleep(time.Minute)
		})
	}
}

// A cluster whose volumes cannot be looked into says so.
func TestFileOfNoReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		result := w.play(t.Context(), "nodes: []\nsteps:\n- expect: {file: {volume: config, path: a, content: x}}\n", nil)
		if err := result.Err(); err == nil || !strings.Contains(err.Error(), "cannot be looked into") {
			t.Errorf("error %v", err)
		}
	})
}
