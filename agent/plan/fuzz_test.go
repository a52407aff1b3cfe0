package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// FuzzPlan gives the plan a random pod in a random world and checks, all the
// time, that it starts no container twice and removes nothing that runs; and,
// once the world has stopped changing, that it comes to rest.
func FuzzPlan(f *testing.F) {
	for seed := range uint64(32) {
		f.Add(seed, seed*7, uint16(40))
	}
	f.Fuzz(func(t *testing.T, a, b uint64, steps uint16) {
		m := newModel(rand.New(rand.NewPCG(a, b)))
		for range steps % 200 {
			m.disturb()
			m.step(t)
		}
		m.calm(t)
	})
}

// model is a world that does what plans say, after a while.
type model struct {
	r        *rand.Rand
	desired  *pod.Desired
	observed pod.Observed
	probes   pod.Probes
	history  plan.History
	status   v1.PodStatus
	now      time.Time
}

func newModel(r *rand.Rand) *model {
	m := &model{r: r, now: epoch, probes: pod.Probes{}, observed: pod.Observed{UID: "u1"},
		history: plan.History{InFlight: map[string]plan.Action{}, Containers: map[string]plan.Container{}}}
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u1"}}
	p.Spec.RestartPolicy = []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}[r.IntN(3)]
	always := v1.ContainerRestartPolicyAlways
	for i := range r.IntN(4) {
		c := v1.Container{Name: fmt.Sprintf("i%d", i), Image: "img"}
		if r.IntN(2) == 0 {
			c.RestartPolicy = &always
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for i := range 1 + r.IntN(3) {
		c := v1.Container{Name: fmt.Sprintf("c%d", i), Image: "img"}
		if r.IntN(3) == 0 {
			c.LivenessProbe = &v1.Probe{}
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	if r.IntN(5) == 0 {
		seconds := int64(r.IntN(600) + 1)
		p.Spec.ActiveDeadlineSeconds = &seconds
	}
	m.desired = &pod.Desired{Pod: p, Source: pod.SourceAPI, FirstSeen: epoch}
	return m
}

// disturb changes one thing in the world.
func (m *model) disturb() {
	m.now = m.now.Add(time.Duration(m.r.Int64N(int64(20 * time.Second))))
	switch n := m.r.IntN(20); {
	case n < 6 && len(m.observed.Containers) > 0:
		m.exit(&m.observed.Containers[m.r.IntN(len(m.observed.Containers))])
	case n == 6 && len(m.observed.Sandboxes) > 0: // the machine lost power
		m.observed.Sandboxes[0].Ready = false
		for i := range m.observed.Containers {
			m.exit(&m.observed.Containers[i])
		}
	case n == 7: // the agent restarts
		m.history = plan.History{InFlight: map[string]plan.Action{}, Containers: map[string]plan.Container{}}
	case n == 8 && m.r.IntN(6) == 0 && m.desired != nil:
		next := *m.desired
		next.Pod = next.Pod.DeepCopy()
		at, grace := metav1.NewTime(m.now), int64(m.r.IntN(40))
		next.Pod.DeletionTimestamp, next.Pod.DeletionGracePeriodSeconds = &at, &grace
		m.desired = &next
	case n == 9 && m.r.IntN(12) == 0 && m.desired != nil:
		next := *m.desired
		next.Removed = m.now
		m.desired = &next
	case n == 10 && m.r.IntN(12) == 0:
		m.desired = nil
	case n == 11 && len(m.observed.Containers) > 0:
		c := &m.observed.Containers[m.r.IntN(len(m.observed.Containers))]
		m.probes[c.Name] = pod.ProbeResults{ContainerID: c.ID, Liveness: pod.ResultFailure}
	case n == 12 && m.desired != nil:
		next := *m.desired
		next.Pod = next.Pod.DeepCopy()
		next.Pod.Spec.Containers[0].Image = fmt.Sprintf("img%d", m.r.IntN(3))
		m.desired = &next
	case n == 13 && len(m.observed.Containers) > 0: // the runtime loses one
		i := m.r.IntN(len(m.observed.Containers))
		if m.observed.Containers[i].State != pod.ContainerRunning {
			m.observed.Containers = slices.Delete(m.observed.Containers, i, i+1)
		}
	case n == 14 && m.desired != nil: // the API server has heard of the status
		next := *m.desired
		next.Pod = next.Pod.DeepCopy()
		next.Pod.Status = m.status
		m.desired = &next
	}
}

func (m *model) exit(c *pod.Container) {
	if c.State == pod.ContainerRunning {
		c.State, c.FinishedAt, c.ExitCode = pod.ContainerExited, m.now, int32(m.r.IntN(2))
	}
}

// step plans, checks the plan, and carries some of it out.
func (m *model) step(t *testing.T) plan.Result {
	next := plan.Next(plan.Input{Desired: m.desired, SourcesReady: true, Observed: m.observed, Probes: m.probes,
		History: &m.history, Backoff: plan.DefaultBackoff(), Now: m.now})
	if next.Phase < m.history.Phase {
		t.Fatalf("the pod went from %v back to %v", m.history.Phase, next.Phase)
	}
	m.history.Phase = next.Phase
	if next.Phase != pod.Syncing && m.history.TerminatingSince.IsZero() {
		m.history.TerminatingSince = m.now
		m.history.End = next.End
	}
	m.check(t, next)
	for _, a := range next.Actions {
		m.history.InFlight[a.Key()] = a
		c := m.history.Containers[a.Container]
		if a.Kind == plan.StartContainer {
			c.Restart = a.Restart
		}
		if a.Replace {
			c.Replace = a.ID
		}
		m.history.Containers[a.Container] = c
	}
	for key, a := range m.history.InFlight {
		if m.r.IntN(3) > 0 {
			delete(m.history.InFlight, key)
			m.carryOut(t, a)
		}
	}
	if m.desired != nil {
		m.computeStatus(t, next)
	}
	return next
}

func (m *model) computeStatus(t *testing.T, next plan.Result) {
	previous := &m.status
	if previous.Phase == "" {
		previous = &m.desired.Pod.Status
	}
	status := podstatus.Compute(podstatus.Input{Desired: m.desired, Observed: m.observed, Phase: next.Phase,
		Waiting: next.Waiting, End: next.End, Previous: previous, RuntimeName: "test", Now: m.now})
	if pod.IsTerminal(m.status.Phase) && status.Phase != m.status.Phase {
		t.Fatalf("phase %s became %s", m.status.Phase, status.Phase)
	}
	if pod.IsTerminal(status.Phase) && !pod.IsTerminal(m.status.Phase) && m.observed.AnyRunning() {
		t.Fatalf("phase %s while a container runs", status.Phase)
	}
	m.status = status
}

// check looks for plans that are never right.
func (m *model) check(t *testing.T, next plan.Result) {
	makes := 0
	for _, a := range m.history.InFlight {
		if a.Makes() && next.Phase == pod.Terminated {
			t.Fatalf("the pod is %v while %v is under way", next.Phase, a)
		}
	}
	for _, a := range next.Actions {
		if _, busy := m.history.InFlight[a.Key()]; busy && a.Kind != plan.StopContainer {
			t.Fatalf("%v is under way and planned again", a)
		}
		if a.Makes() {
			makes++
			if next.Phase != pod.Syncing {
				t.Fatalf("%v of a pod that is %v", a, next.Phase)
			}
		}
		switch a.Kind {
		case plan.UnmountVolumes, plan.RemoveDirectory:
			if m.observed.AnyRunning() {
				t.Fatalf("%v while a container runs", a)
			}
		case plan.StartContainer:
			if !m.history.Mounted {
				t.Fatalf("%v without its volumes", a)
			}
			if c := m.observed.Container(a.Container); c != nil && c.State == pod.ContainerRunning {
				t.Fatalf("%v while %s runs", a, c.ID)
			}
		case plan.RunSandbox:
			if s := m.observed.Sandbox(); s != nil && (s.Ready || s.Attempt >= a.Attempt) {
				t.Fatalf("%v beside %v", a, s)
			}
		case plan.StopSandbox, plan.RemoveSandbox:
			if m.observed.AnyRunning() && a.ID == m.observed.Sandbox().ID {
				t.Fatalf("%v while a container runs", a)
			}
		case plan.RemoveContainer:
			for _, c := range m.observed.Containers {
				if c.ID == a.ID && c.State == pod.ContainerRunning {
					t.Fatalf("%v while it runs", a)
				}
			}
		}
	}
	if makes > 1 {
		t.Fatalf("%d things are made at once: %v", makes, next.Actions)
	}
}

// carryOut does what an action says, in a world that may have changed since.
func (m *model) carryOut(t *testing.T, a plan.Action) {
	o := &m.observed
	switch a.Kind {
	case plan.RunSandbox:
		o.Sandboxes = slices.Insert(o.Sandboxes, 0, pod.Sandbox{ID: fmt.Sprintf("s%d", a.Attempt), Attempt: a.Attempt, Ready: true})
	case plan.StartContainer:
		i := slices.IndexFunc(o.Sandboxes, func(s pod.Sandbox) bool { return s.ID == a.ID })
		if i < 0 || !o.Sandboxes[i].Ready || m.desired == nil {
			return
		}
		for _, c := range o.Containers {
			if c.Name == a.Container && c.State == pod.ContainerRunning {
				t.Fatalf("two of %s run", a.Container)
			}
		}
		hash := "gone"
		if (&life{desired: m.desired}).hash(a.Container) != "none" {
			hash = (&life{desired: m.desired}).hash(a.Container)
		}
		o.Containers = slices.Insert(o.Containers, 0, pod.Container{ID: fmt.Sprintf("%s-%d-%d", a.Container, a.Attempt, m.now.UnixNano()),
			Name: a.Container, SandboxID: a.ID, Attempt: a.Attempt, State: pod.ContainerRunning, StartedAt: m.now, Hash: hash})
	case plan.StopContainer:
		for i := range o.Containers {
			if o.Containers[i].ID == a.ID {
				m.exit(&o.Containers[i])
			}
		}
	case plan.StopSandbox:
		for i := range o.Sandboxes {
			if o.Sandboxes[i].ID == a.ID {
				o.Sandboxes[i].Ready = false
			}
		}
	case plan.RemoveContainer:
		o.Containers = slices.DeleteFunc(o.Containers, func(c pod.Container) bool { return c.ID == a.ID })
	case plan.MountVolumes:
		m.history.Mounted = true
	case plan.UnmountVolumes:
		m.history.Unmounted = true
	case plan.RemoveDirectory:
		m.history.Removed = true
	case plan.RemoveSandbox:
		o.Sandboxes = slices.DeleteFunc(o.Sandboxes, func(s pod.Sandbox) bool { return s.ID == a.ID })
		o.Containers = slices.DeleteFunc(o.Containers, func(c pod.Container) bool { return c.SandboxID == a.ID })
	}
}

// calm lets time pass in a world in which containers go on running and init
// containers succeed, until nothing is to be done and nothing waited for.
func (m *model) calm(t *testing.T) {
	clear(m.probes)
	for range 500 {
		next := m.step(t)
		if len(next.Actions) == 0 && len(m.history.InFlight) == 0 && next.Wake.IsZero() && !m.initRuns() {
			return
		}
		m.now = m.now.Add(time.Second)
		if !next.Wake.IsZero() && next.Wake.After(m.now) {
			m.now = next.Wake
		}
		m.endInit()
	}
	t.Fatalf("no rest: %+v\n%+v", m.observed, m.history)
}

// initRuns reports whether an init container that is to end still runs.
func (m *model) initRuns() bool {
	for i := range m.observed.Containers {
		if c := &m.observed.Containers[i]; c.State == pod.ContainerRunning && m.isInit(c.Name) {
			return true
		}
	}
	return false
}

func (m *model) endInit() {
	for i := range m.observed.Containers {
		if c := &m.observed.Containers[i]; c.State == pod.ContainerRunning && m.isInit(c.Name) {
			c.State, c.FinishedAt, c.ExitCode = pod.ContainerExited, m.now, 0
		}
	}
}

func (m *model) isInit(name string) bool {
	if m.desired == nil {
		return false
	}
	for i := range m.desired.Pod.Spec.InitContainers {
		if c := &m.desired.Pod.Spec.InitContainers[i]; c.Name == name {
			return !pod.IsSidecar(c)
		}
	}
	return false
}
