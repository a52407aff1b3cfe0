package kubeapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	coordination "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"nodelet/agent/pod"
)

func TestPodStatusPatch(t *testing.T) {
	condition := func(kind, status string) v1.PodCondition {
		return v1.PodCondition{Type: v1.PodConditionType(kind), Status: v1.ConditionStatus(status)}
	}
	old := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"a": "b"}},
		Status: v1.PodStatus{Phase: v1.PodPending, Message: "m", Conditions: []v1.PodCondition{condition("A", "True"), condition("B", "True")}}}
	for name, test := range map[string]struct {
		change func(*v1.PodStatus)
		want   string
	}{
		"nothing": {func(*v1.PodStatus) {}, ""},
		"phase": {func(s *v1.PodStatus) { s.Phase = v1.PodRunning },
			`{"metadata":{"uid":"u"},"status":{"phase":"Running"}}`},
		"field removed": {func(s *v1.PodStatus) { s.Message = "" },
			`{"metadata":{"uid":"u"},"status":{"message":null}}`},
		"one condition": {func(s *v1.PodStatus) {
			s.Conditions = []v1.PodCondition{condition("A", "True"), condition("B", "False")}
		},
			`{"metadata":{"uid":"u"},"status":{"$setElementOrder/conditions":[{"type":"A"},{"type":"B"}],` +
				`"conditions":[{"status":"False","type":"B"}]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.answer("PATCH /api/v1/namespaces/ns/pods/p/status", http.StatusOK, podOf("p", "u", "7"))
			status := old.DeepCopy().Status
			test.change(&status)
			got, err := s.client().PatchPodStatus(t.Context(), old, status)
			if err != nil {
				t.Fatal(err)
			}
			requests := s.take()
			if test.want == "" {
				if len(requests) != 0 || got != old {
					t.Errorf("%d calls, got %v; want none and the old object", len(requests), got)
				}
				return
			}
			if len(requests) != 1 || !sameJSON(requests[0].body, test.want) || got.ResourceVersion != "7" {
				t.Fatalf("%d calls, patch %s, want %s; got %v", len(requests), requests[0].body, test.want, got)
			}
			if kind := requests[0].Header.Get("Content-Type"); kind != "application/strategic-merge-patch+json" {
				t.Errorf("content type %s", kind)
			}
			if agent := requests[0].Header.Get("User-Agent"); agent != "nodelet-agent" {
				t.Errorf("user agent %s", agent)
			}
		})
	}
}

func sameJSON(a []byte, b string) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

// Callers tell errors apart through the wrapping.
func TestErrorsKeepTheirKind(t *testing.T) {
	p := podOf("p", "u", "1")
	n := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	other := n.DeepCopy()
	other.Status.Phase, other.Labels = v1.NodeRunning, map[string]string{"a": "b"}
	for call, do := range map[string]func(ctx context.Context, c *Client) error{
		"GET /api/v1/namespaces/ns/pods/p": func(ctx context.Context, c *Client) error {
			_, err := c.GetPod(ctx, "ns", "p")
			return err
		},
		"PATCH /api/v1/namespaces/ns/pods/p/status": func(ctx context.Context, c *Client) error {
			_, err := c.PatchPodStatus(ctx, p, v1.PodStatus{Phase: v1.PodFailed})
			return err
		},
		"DELETE /api/v1/namespaces/ns/pods/p": func(ctx context.Context, c *Client) error {
			return c.DeletePod(ctx, "ns", "p", "u", 0)
		},
		"POST /api/v1/nodes": func(ctx context.Context, c *Client) error {
			_, err := c.CreateNode(ctx, n)
			return err
		},
		"GET /api/v1/nodes/n": func(ctx context.Context, c *Client) error {
			_, err := c.GetNode(ctx, "n")
			return err
		},
		"PATCH /api/v1/nodes/n": func(ctx context.Context, c *Client) error {
			_, err := c.PatchNode(ctx, n, other)
			return err
		},
		"PATCH /api/v1/nodes/n/status": func(ctx context.Context, c *Client) error {
			_, err := c.PatchNodeStatus(ctx, n, other)
			return err
		},
	} {
		t.Run(call, func(t *testing.T) {
			s := newServer(t)
			if err := do(t.Context(), s.client()); !apierrors.IsNotFound(err) {
				t.Errorf("%v, want it to be NotFound", err)
			}
			s.answer(call, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict))
			if err := do(t.Context(), s.client()); !apierrors.IsConflict(err) {
				t.Errorf("%v, want it to be a Conflict", err)
			}
			if requests := s.take(); len(requests) != 2 {
				t.Errorf("%d calls, want 2", len(requests))
			}
			// A call under way must not outlive the agent.
			s.answer(call, 0, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			start := time.Now()
			if err := do(ctx, s.client()); err == nil || time.Since(start) > 5*time.Second {
				t.Errorf("%v after %v, want it to end with its context", err, time.Since(start))
			}
		})
	}
}

// A pod is deleted by its UID, so that its successor of the same name is not.
func TestDeletionNamesThePod(t *testing.T) {
	s := newServer(t)
	s.answer("DELETE /api/v1/namespaces/ns/pods/p", http.StatusOK, podOf("p", "u", "1"))
	if err := s.client().DeletePod(t.Context(), "ns", "p", "u", 30*time.Second); err != nil {
		t.Fatal(err)
	}
	o := s.take()[0].object(t).(*metav1.DeleteOptions)
	if *o.GracePeriodSeconds != 30 || *o.Preconditions.UID != "u" {
		t.Errorf("options %+v", o)
	}
}

// Addresses are replaced as a whole; merged by type, two of one type are lost.
func TestNodeStatusPatch(t *testing.T) {
	s := newServer(t)
	old := &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: v1.NodeStatus{Addresses: []v1.NodeAddress{{Type: "InternalIP", Address: "::1"}}}}
	next := old.DeepCopy()
	next.Status.Addresses = []v1.NodeAddress{{Type: "InternalIP", Address: "::2"}, {Type: "InternalIP", Address: "::3"}}
	s.answer("PATCH /api/v1/nodes/n/status", http.StatusOK, next)
	if _, err := s.client().PatchNodeStatus(t.Context(), old, next); err != nil {
		t.Fatal(err)
	}
	want := `{"status":{"addresses":[{"type":"InternalIP","address":"::2"},{"type":"InternalIP","address":"::3"},{"$patch":"replace"}]}}`
	if got := s.take()[0].body; !sameJSON(got, want) {
		t.Errorf("patch %s, want %s", got, want)
	}
}

const leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"

func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.answer("GET /api/v1/nodes/n", http.StatusOK, &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}})
		s.echo("POST " + leases)
		s.echo("PUT " + leases + "/n")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		c, failures := s.client(), 0
		go func() { c.RunLease(ctx, "n", 40*time.Second, func() { failures++ }); close(done) }()
		synctest.Wait()
		requests := s.take()
		l := requests[len(requests)-1].object(t).(*coordination.Lease)
		if l.Name != "n" || *l.Spec.HolderIdentity != "n" || *l.Spec.LeaseDurationSeconds != 40 {
			t.Errorf("lease %+v", l.Spec)
		}
		if o := l.OwnerReferences; len(o) != 1 || o[0].Kind != "Node" || o[0].Name != "n" || o[0].UID != "u" || o[0].APIVersion != "v1" {
			t.Errorf("owners %+v", o)
		}
		time.Sleep(time.Hour)
		n := 0
		for _, r := range s.take() {
			if r.Method != http.MethodPut {
				t.Errorf("%s %s at rest", r.Method, r.URL)
			}
			n++
		}
		if n < 345 || n > 360 {
			t.Errorf("%d renewals in an hour, want one every 10 s and up to 4 %% more", n)
		}
		if failures != 0 {
			t.Errorf("%d failures told of", failures)
		}
		// A server that hangs is given up on in time to try again.
		s.answer("PUT "+leases+"/n", 0, nil)
		time.Sleep(35 * time.Second)
		if n := len(s.take()); n < 2 {
			t.Errorf("%d tries in 35 s with a server that hangs, want more", n)
		}
		cancel()
		<-done
	})
}

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.echo("POST /api/v1/namespaces/ns/events")
		s.echo("POST /api/v1/namespaces/default/events")
		r := s.client().NewRecorder("n")
		p := podOf("p", "u", "1")
		p.Spec.Containers = []v1.Container{{Name: "c"}}
		r.PodEvent(pod.Event{Pod: p, Container: "c", Type: v1.EventTypeWarning, Reason: "BackOff", Message: "m"})
		synctest.Wait()
		e := s.take()[0].object(t).(*v1.Event)
		if e.Source != (v1.EventSource{Component: "kubelet", Host: "n"}) || e.ReportingController != "kubelet" ||
			e.Reason != "BackOff" || e.Type != "Warning" || e.Message != "m" || e.Count != 1 {
			t.Errorf("event %+v", e)
		}
		if o := e.InvolvedObject; o.Kind != "Pod" || o.Name != "p" || o.UID != "u" || o.FieldPath != "spec.containers{c}" {
			t.Errorf("object %+v", o)
		}
		// Once more: the event there is gets a count.
		s.answer("PATCH /api/v1/namespaces/ns/events/"+e.Name, http.StatusOK, e)
		r.PodEvent(pod.Event{Pod: p, Container: "c", Type: v1.EventTypeWarning, Reason: "BackOff", Message: "m"})
		synctest.Wait()
		if requests := s.take(); len(requests) != 1 || requests[0].Method != http.MethodPatch {
			t.Errorf("%d calls for an event that came again, want one patch", len(requests))
		}
		r.NodeEvent(v1.EventTypeNormal, "Starting", "m")
		synctest.Wait()
		if e := s.take()[0].object(t).(*v1.Event); e.InvolvedObject.Kind != "Node" || e.InvolvedObject.Name != "n" {
			t.Errorf("object %+v", e.InvolvedObject)
		}
		r.Shutdown()
	})
}

// Heartbeats do not wait behind the calls of a node full of pods.
func TestHeartbeatsAreNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.answer("GET /api/v1/nodes/n", http.StatusOK, &v1.Node{})
		s.answer("GET /api/v1/namespaces/ns/pods/p", http.StatusOK, podOf("p", "u", "1"))
		c, err := New(&rest.Config{Host: "http://api", Transport: s}, Options{QPS: 1, Burst: 1, EventQPS: 1, EventBurst: 1})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 5 {
			if _, err := c.GetPod(t.Context(), "ns", "p"); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d < 3*time.Second || d > 5*time.Second {
			t.Errorf("5 calls at 1 a second took %v", d)
		}
		start = time.Now()
		for range 5 {
			if _, err := c.GetNode(t.Context(), "n"); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("calls on the node waited %v", d)
		}
	})
}

// There may be thousands of clients in a process.
func BenchmarkNew(b *testing.B) {
	s := &server{answers: map[string]func(*request) (int, runtime.Object){}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(&rest.Config{Host: "http://api", Transport: s}, DefaultOptions()); err != nil {
			b.Fatal(err)
		}
	}
}
