package node

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"nodelet/agent/podruntime"
)

// world is the API server, the machine and the runtime of one node.
type world struct {
	inUse      []v1.UniqueVolumeName
	mu         sync.Mutex
	node       *v1.Node
	fail       error
	failStatus error
	calls      []string
	runtimeErr error
	runtime    podruntime.Status
	hang       bool
	// allocatable is what Facts says of it.
	allocatable v1.ResourceList
	// stuck keeps Facts waiting.
	stuck   chan struct{}
	latency time.Duration
	events  []string
}

func (w *world) begin(call string) error {
	time.Sleep(w.latency)
	w.mu.Lock()
	w.calls = append(w.calls, call)
	return w.fail
}

func (w *world) CreateNode(_ context.Context, n *v1.Node) (*v1.Node, error) {
	err := w.begin("create")
	defer w.mu.Unlock()
	if err == nil && w.node != nil {
		err = apierrors.NewAlreadyExists(schema.GroupResource{Resource: "nodes"}, n.Name)
	}
	if err == nil {
		w.node = n
	}
	return n, err
}

func (w *world) GetNode(context.Context, string) (*v1.Node, error) {
	err := w.begin("get")
	defer w.mu.Unlock()
	return w.node, err
}

func (w *world) PatchNode(_ context.Context, _, next *v1.Node) (*v1.Node, error) {
	err := w.begin("patch")
	defer w.mu.Unlock()
	w.node = next
	return next, err
}

func (w *world) PatchNodeStatus(_ context.Context, _, next *v1.Node) (*v1.Node, error) {
	err := w.begin("status")
	defer w.mu.Unlock()
	if err == nil {
		err = w.failStatus
	}
	if err == nil {
		w.node = next
	}
	return next, err
}

func (w *world) RunLease(ctx context.Context, _ string, _ time.Duration, _ func()) { <-ctx.Done() }

func (w *world) Facts(context.Context) (Facts, error) {
	w.mu.Lock()
	stuck := w.stuck
	w.mu.Unlock()
	if stuck != nil {
		<-stuck
	}
	return Facts{Capacity: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4")}, Allocatable: w.allocatable,
		Addresses: []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.7"}}}, nil
}

func (w *world) Status(ctx context.Context) (podruntime.Status, error) {
	w.mu.Lock()
	hang, state, err := w.hang, w.runtime, w.runtimeErr
	w.mu.Unlock()
	if hang {
		<-ctx.Done()
		return podruntime.Status{}, ctx.Err()
	}
	return state, err
}

func (w *world) ListImages(context.Context) ([]podruntime.Image, error) {
	images := make([]podruntime.Image, 60)
	images[0].Names = make([]string, 9)
	return images, nil
}

func (w *world) volumesInUse() ([]v1.UniqueVolumeName, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inUse, w.inUse != nil
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

func play(t *testing.T, change func(*Config), f func(t *testing.T, w *world, m *Manager)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{runtime: podruntime.Status{Name: "test", Version: "1", Ready: true}}
		config := Config{Name: "n", RegisterNode: true, Version: "v1.37.2", MaxPods: 110,
			Labels: map[string]string{"pool": "a"}, Taints: []v1.Taint{{Key: "k", Effect: v1.TaintEffectNoSchedule}},
			StatusUpdateFrequency: 10 * time.Second, StatusReportFrequency: 5 * time.Minute,
			LeaseDuration: 40 * time.Second, RuntimeTimeout: 5 * time.Second}
		if change != nil {
			change(&config)
		}
		m := New(config, Deps{API: w, Machine: w, Runtime: w, Rand: rand.New(rand.NewPCG(1, 1)), Log: slog.New(slog.DiscardHandler),
			VolumesInUse: w.volumesInUse, Event: func(_, reason, _ string) { w.set(func() { w.events = append(w.events, reason) }) }})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		f(t, w, m)
		cancel()
		<-done
	})
}

// What volumes are in use is written as soon as it is told, and kept while it is not
// known.
func TestVolumesInUse(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		synctest.Wait()
		w.take()
		for _, step := range []struct{ tell, want []v1.UniqueVolumeName }{
			{[]v1.UniqueVolumeName{"a"}, []v1.UniqueVolumeName{"a"}},
			{[]v1.UniqueVolumeName{"a", "b"}, []v1.UniqueVolumeName{"a", "b"}},
			{nil, []v1.UniqueVolumeName{"a", "b"}},
			{[]v1.UniqueVolumeName{}, []v1.UniqueVolumeName{}},
		} {
			w.set(func() { w.inUse = step.tell })
			m.Update()
			synctest.Wait()
			if got := m.Node().Status.VolumesInUse; !slices.Equal(got, step.want) {
				t.Errorf("told %q: %q, want %q", step.tell, got, step.want)
			}
		}
		if calls := w.take(); !slices.Equal(calls, []string{"status", "status", "status"}) {
			t.Errorf("calls %q", calls)
		}
	})
}

func TestRegisters(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		if calls := w.take(); !slices.Equal(calls, []string{"create", "status"}) {
			t.Errorf("calls %q", calls)
		}
		n := m.Node()
		if c := condition(n, v1.NodeReady); c == nil || c.Status != v1.ConditionTrue || c.Reason != "KubeletReady" {
			t.Errorf("Ready condition %+v", c)
		}
		if last := n.Status.Conditions[len(n.Status.Conditions)-1]; last.Type != v1.NodeReady || len(n.Status.Conditions) != 4 {
			t.Errorf("conditions %v", n.Status.Conditions)
		}
		for key, want := range map[string]string{"kubernetes.io/hostname": "n", "pool": "a", "kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux"} {
			if n.Labels[key] != want {
				t.Errorf("label %s is %q, want %q", key, n.Labels[key], want)
			}
		}
		if got := n.Status.Capacity.Pods().Value(); got != 110 || n.Status.Allocatable.Cpu().Value() != 4 {
			t.Errorf("capacity %v, allocatable %v", n.Status.Capacity, n.Status.Allocatable)
		}
		if n.Status.NodeInfo.ContainerRuntimeVersion != "test://1" || n.Status.NodeInfo.KubeletVersion != "v1.37.2" ||
			len(n.Status.Images) != 50 || len(n.Status.Images[0].Names) != 5 || len(n.Spec.Taints) != 1 || !slices.Equal(m.HostIPs(), []string{"192.0.2.7"}) {
			t.Errorf("node %+v", n)
		}
	})
}

// Without the API server there is still the node as it is to be registered; once
// the API server has one, that is the node.
func TestDescribedBeforeItIsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{fail: errors.New("no route"), runtime: podruntime.Status{Name: "test", Ready: true}}
		m := alone(w, rand.New(rand.NewPCG(1, 1)))
		if m.AnyNode() != nil {
			t.Error("a node before anything is known")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		<-m.Described()
		n := m.AnyNode()
		if n == nil || m.Node() != nil || n.Name != "n" || n.Labels["kubernetes.io/hostname"] != "n" ||
			n.Status.Allocatable.Cpu().Value() != 4 || !slices.Equal(m.HostIPs(), []string{"192.0.2.7"}) {
			t.Fatalf("node %+v, registered %v", n, m.Node())
		}
		select {
		case <-m.Registered():
			t.Error("registered without an API server")
		default:
		}
		// An administrator labelled the Node long ago.
		w.set(func() {
			w.fail, w.node = nil, n.DeepCopy()
			w.node.Labels["disk"] = "ssd"
		})
		<-m.Registered()
		if got := m.AnyNode().Labels["disk"]; got != "ssd" {
			t.Errorf("label of the registered node: %q", got)
		}
		cancel()
		<-done
	})
}

// An API server that answers is asked first: the Node may have labels that the
// machine does not know of.
func TestDescribedAsRegistered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{latency: time.Second}
		m := alone(w, rand.New(rand.NewPCG(1, 1)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { m.Run(ctx); close(done) }()
		<-m.Described()
		if m.Node() == nil {
			t.Error("described before the API server has answered")
		}
		cancel()
		<-done
	})
}

// At rest the node's status is written once in the report's time.
func TestSteadyStateIsQuiet(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		w.take()
		// The first report comes spread, the others every five minutes.
		time.Sleep(10 * time.Hour)
		if calls := w.take(); len(calls) < 10*60/5-1 || len(calls) > 10*60/5+1 || slices.ContainsFunc(calls, isNot("status")) {
			t.Errorf("calls %q in 10 idle hours, want 120 of the status", calls)
		}
	})
}

func isNot(call string) func(string) bool { return func(c string) bool { return c != call } }

// Nodes that start together do not report together, and a seed says when.
func TestReportsAreSpread(t *testing.T) {
	spread := func(seed uint64) time.Duration {
		m := alone(&world{}, rand.New(rand.NewPCG(seed, 0)))
		if !m.register(t.Context()) || m.update(t.Context()) != nil {
			t.Fatal("not registered")
		}
		return m.spread
	}
	seen := map[time.Duration]bool{}
	for seed := range uint64(100) {
		d := spread(seed)
		if d < -150*time.Second || d > 150*time.Second {
			t.Errorf("the first report is moved by %v, want at most half of five minutes", d)
		}
		if d != spread(seed) {
			t.Error("one seed, two times")
		}
		seen[d] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d different times of 100 nodes", len(seen))
	}
}

// alone is a Manager that does not run.
func alone(w *world, random *rand.Rand) *Manager {
	return New(Config{Name: "n", RegisterNode: true, StatusUpdateFrequency: time.Minute, StatusReportFrequency: 5 * time.Minute,
		RuntimeTimeout: time.Minute}, Deps{API: w, Machine: w, Runtime: w, Rand: random,
		Log: slog.New(slog.DiscardHandler), Event: func(_, _, _ string) {}})
}

// Registration is tried until it succeeds, ever more slowly.
func TestRegistrationIsTriedAgain(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		w.set(func() { w.fail = errors.New("no route") })
		// 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 19.7 … 54.7 s
		time.Sleep(time.Minute)
		if calls := w.take(); len(calls) != 14 || slices.ContainsFunc(calls, isNot("create")) {
			t.Errorf("calls %q in the first minute, want 14 to create", calls)
		}
		w.set(func() { w.fail = nil })
		<-m.Registered()
	})
}

// A failed write is tried five times in a row, then at the next update.
func TestStatusIsTriedAgain(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		w.take()
		w.set(func() { w.failStatus, w.runtime.Version = errors.New("no route"), "2" })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		want := []string{"status", "get", "status", "get", "status", "get", "status", "get", "status"}
		if calls := w.take(); !slices.Equal(calls, want) {
			t.Errorf("calls %q, want %q", calls, want)
		}
		w.set(func() { w.failStatus = nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if v := m.Node().Status.NodeInfo.ContainerRuntimeVersion; v != "test://2" {
			t.Errorf("runtime %s", v)
		}
	})
}

// A watch that is behind must not undo what is known.
func TestOldNodeIsPassedOver(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		for _, step := range []struct{ version, want string }{{"7", "7"}, {"5", "7"}, {"10", "10"}} {
			n := m.Node().DeepCopy()
			n.ResourceVersion = step.version
			m.NodeSet(n)
			if got := m.Node().ResourceVersion; got != step.want {
				t.Errorf("version %s after %s was set, want %s", got, step.version, step.want)
			}
		}
	})
}

func TestExistingNodeIsReconciled(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		// Another agent of the same name, started later with other labels.
		existing := m.Node().DeepCopy()
		existing.Labels = map[string]string{"admin": "set"}
		existing.Spec.Taints = nil
		w.set(func() { w.node, w.calls = existing, nil })
		second := New(m.config, m.Deps)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { second.Run(ctx); close(done) }()
		<-second.Registered()
		cancel()
		<-done
		// What administrators may have changed since the Node was made is theirs.
		if calls := w.take(); !slices.Equal(calls[:3], []string{"create", "get", "patch"}) {
			t.Errorf("calls %q", calls)
		}
		if w.node.Labels["admin"] != "set" || w.node.Labels["kubernetes.io/hostname"] != "n" ||
			w.node.Labels["pool"] != "" || len(w.node.Spec.Taints) != 0 {
			t.Errorf("labels %v taints %v", w.node.Labels, w.node.Spec.Taints)
		}
	})
}

func TestOnlyStatusWithoutRegistration(t *testing.T) {
	play(t, func(c *Config) { c.RegisterNode = false }, func(t *testing.T, w *world, m *Manager) {
		w.set(func() { w.fail = apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "n") })
		time.Sleep(20 * time.Second)
		w.set(func() { w.fail, w.node = nil, &v1.Node{} })
		<-m.Registered()
		if calls := w.take(); slices.Contains(calls, "create") || calls[len(calls)-1] != "status" {
			t.Errorf("calls %q", calls)
		}
	})
}

func TestRuntimeFailureShows(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		w.set(func() { w.runtimeErr = errors.New("connection refused") })
		time.Sleep(25 * time.Second)
		if !m.ready() {
			t.Error("not ready within the runtime's 30 s of grace")
		}
		time.Sleep(20 * time.Second)
		if c := condition(m.Node(), v1.NodeReady); c.Status != v1.ConditionFalse || c.Reason != "KubeletNotReady" {
			t.Errorf("Ready condition %+v", c)
		}
		w.set(func() { w.runtimeErr = nil })
		time.Sleep(2 * time.Second)
		if !m.ready() {
			t.Error("not ready soon after the runtime came back")
		}
		if !slices.Equal(w.events, []string{"Starting", "NodeReady", "NodeNotReady", "NodeReady"}) {
			t.Errorf("events %q", w.events)
		}
		// A question that hangs costs its timeout, not the node.
		w.set(func() { w.hang = true })
		time.Sleep(15 * time.Second)
		if !m.ready() {
			t.Error("one hung question made the node not ready")
		}
	})
}

// A runtime that hangs is down like one that fails, however long its calls may
// take otherwise.
func TestHungRuntimeShows(t *testing.T) {
	play(t, func(c *Config) { c.RuntimeTimeout = 2 * time.Minute }, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		w.set(func() { w.hang = true })
		time.Sleep(29 * time.Second)
		if !m.ready() {
			t.Error("not ready within the runtime's 30 s of grace")
		}
		time.Sleep(25 * time.Second)
		if m.ready() {
			t.Error("still ready after 54 s of a hung runtime")
		}
	})
}

// A loop that hangs is told of; one that waits for an API server is not hung.
func TestHealthy(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		w.set(func() { w.fail = errors.New("connection refused") })
		for range 20 {
			time.Sleep(time.Minute)
			if err := m.Healthy(); err != nil {
				t.Error(err)
			}
		}
		stuck := make(chan struct{})
		w.set(func() { w.stuck = stuck })
		time.Sleep(4 * time.Minute)
		if err := m.Healthy(); err == nil {
			t.Error("a loop that hangs for minutes counts as healthy")
		}
		w.set(func() { w.fail, w.stuck = nil, nil })
		close(stuck)
		time.Sleep(time.Minute)
		if err := m.Healthy(); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkUnchanged(b *testing.B) {
	w := &world{runtime: podruntime.Status{Name: "test", Version: "1", Ready: true}}
	m := alone(w, rand.New(rand.NewPCG(1, 1)))
	if !m.register(b.Context()) || m.update(b.Context()) != nil {
		b.Fatal("not registered")
	}
	w.take()
	b.ReportAllocs()
	for b.Loop() {
		if err := m.update(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	if calls := w.take(); len(calls) > 0 {
		b.Errorf("calls %q", calls)
	}
}
