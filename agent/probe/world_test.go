package probe

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"nodelet/agent/pod"
)

// answer is what a probe finds.
type answer struct {
	ok     bool
	output string
	err    error
	// takes is how long it takes to answer, cut off by the probe's timeout.
	takes time.Duration
}

var good, bad = answer{ok: true}, answer{output: "bad"}

// world is a Prober on scripted containers, in a synctest bubble.
type world struct {
	*Prober
	t     *testing.T
	start time.Time

	mu sync.Mutex
	// answers are given in order, the last one for ever.
	answers map[pod.ProbeKind][]answer
	// asked are the times since the start at which a kind was probed.
	asked    map[pod.ProbeKind][]time.Duration
	commands [][]string
	changed  int
	events   []string
	// underWay counts the probes being answered; most is its largest value.
	underWay, most int
}

// inWorld runs test with a prober that runs, in a bubble.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, start: time.Now(), answers: map[pod.ProbeKind][]answer{}, asked: map[pod.ProbeKind][]time.Duration{}}
		w.Prober = New(Deps{Target: w, Exec: w, Rand: rand.New(rand.NewPCG(1, 2)),
			Changed: w.count, Event: w.note, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(t, w)
	})
}

func (w *world) Probe(ctx context.Context, r Request) (bool, string, error) {
	return w.answer(ctx, r.Kind)
}

func (w *world) ProbeExec(ctx context.Context, _ string, command []string) (int, string, error) {
	w.mu.Lock()
	w.commands = append(w.commands, command)
	w.mu.Unlock()
	ok, output, err := w.answer(ctx, pod.Liveness)
	if ok {
		return 0, output, err
	}
	return 1, output, err
}

func (w *world) answer(ctx context.Context, kind pod.ProbeKind) (bool, string, error) {
	w.mu.Lock()
	w.underWay++
	w.most = max(w.most, w.underWay)
	w.asked[kind] = append(w.asked[kind], time.Since(w.start))
	a := good
	if list := w.answers[kind]; len(list) > 0 {
		a = list[0]
		if len(list) > 1 {
			w.answers[kind] = list[1:]
		}
	}
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.underWay--
		w.mu.Unlock()
	}()
	select {
	case <-time.After(a.takes):
		return a.ok, a.output, a.err
	case <-ctx.Done():
		return false, "", fmt.Errorf("asking: %w", ctx.Err())
	}
}

func (w *world) count(pod.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed++
}

// dirty is how often the pod was marked dirty so far.
func (w *world) dirty() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// times are when a kind was probed so far.
func (w *world) times(kind pod.ProbeKind) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked[kind])
}

func (w *world) note(e pod.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e.Type+" "+e.Reason+" "+e.FieldPath()+" "+e.Message)
}

// after lets time pass and everything settle.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// wantResults checks the results of container "a", incarnation id.
func (w *world) wantResults(id string, startup, liveness, readiness pod.Result) {
	w.t.Helper()
	r := w.Results("u").Of("a", id)
	if r.Startup != startup || r.Liveness != liveness || r.Readiness != readiness {
		w.t.Errorf("%v: startup %d, liveness %d, readiness %d; want %d, %d, %d", time.Since(w.start),
			r.Startup, r.Liveness, r.Readiness, startup, liveness, readiness)
	}
}

// wantAsked checks when a kind was probed, in seconds since the start.
func (w *world) wantAsked(kind pod.ProbeKind, want ...int) {
	w.t.Helper()
	var got []int
	for _, at := range w.times(kind) {
		got = append(got, int(at/time.Second))
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("%s was probed at %v s, want %v", kind, got, want)
	}
}

func (w *world) wantEvents(want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.events, want) {
		w.t.Errorf("events %q\nwant %q", w.events, want)
	}
}

// httpProbe is a probe every ten seconds that needs three failures.
func httpProbe() *v1.Probe {
	return &v1.Probe{
		ProbeHandler:  v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Port: intstr.FromInt32(80)}},
		PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
}

// object is a pod with one container "a".
func object(uid string, change func(c *v1.Container)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: uid, UID: types.UID(uid)},
		Spec: v1.PodSpec{Containers: []v1.Container{{Name: "a"}}}}
	change(&p.Spec.Containers[0])
	return p
}

// seen is what is observed of container "a".
func seen(id string, state pod.ContainerState, started time.Time) pod.Observed {
	return pod.Observed{
		Sandboxes:  []pod.Sandbox{{ID: "s", Ready: true, IPs: []string{"10.0.0.1"}}},
		Containers: []pod.Container{{ID: id, Name: "a", State: state, StartedAt: started}},
	}
}

func running(id string) pod.Observed { return seen(id, pod.ContainerRunning, time.Now()) }

// Hook is not used here.
func (w *world) Hook(context.Context, HookRequest) error { panic("unused") }
