package plan_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// fatalf ends the test, with what the pod and the world look like.
func (m *model) fatalf(format string, args ...any) {
	m.t.Helper()
	var b strings.Builder
	if d := m.desired; d != nil {
		fmt.Fprintf(&b, "pod %s", d.Pod.Spec.RestartPolicy)
		for _, c := range slices.Concat(d.Pod.Spec.InitContainers, d.Pod.Spec.Containers) {
			fmt.Fprintf(&b, ", %s %s", c.Name, c.Image)
			if c.RestartPolicy != nil {
				fmt.Fprintf(&b, " %s%v", *c.RestartPolicy, c.RestartPolicyRules)
			}
		}
		fmt.Fprintf(&b, "\nfrom %s, removed %v, rejected %v, deleted %v, in the API server %s\n", d.Source, d.Removed, d.Rejection,
			d.Pod.DeletionTimestamp, d.Pod.Status.Phase)
	}
	fmt.Fprintf(&b, "the world at +%v:\n", m.world.now.Sub(epoch))
	for _, s := range m.world.sandboxes {
		fmt.Fprintf(&b, "  sandbox %s ready %v\n", s.ID, s.Ready)
	}
	for _, c := range m.world.containers {
		fmt.Fprintf(&b, "  %s in %s %s %d\n", c.ID, c.SandboxID, c.State, c.ExitCode)
	}
	h, last := &m.agent.history, &m.agent.last
	fmt.Fprintf(&b, "history: %s, mounted %v, unmounted %v, removed %v, end %v, under way %v\nlast plan: %s, %v, wake %v, waiting %v",
		h.Phase, h.Mounted, h.Unmounted, h.Removed, h.End, h.InFlight, last.Phase, last.Actions, last.Wake, last.Waiting)
	m.t.Log(b.String())
	m.t.Fatalf(format, args...)
}

// checkPlan looks for plans that are never right.
func (m *model) checkPlan(next plan.Result) {
	a := m.agent
	if next.Phase == pod.Syncing && a.history.Phase != pod.Syncing {
		m.fatalf("the pod went from %v back to %v", a.history.Phase, next.Phase)
	}
	makes := 0
	for _, under := range a.tasks {
		if under.Makes() {
			makes++
			if next.Phase == pod.Terminated {
				m.fatalf("the pod is %v while %v is under way", next.Phase, under.Action)
			}
		}
	}
	for _, action := range next.Actions {
		if _, busy := a.tasks[action.Key()]; busy && action.Kind != plan.StopContainer {
			m.fatalf("%v is under way and planned again", action)
		}
		if action.Makes() {
			makes++
			if next.Phase != pod.Syncing {
				m.fatalf("%v of a pod that is %v", action, next.Phase)
			}
		}
		m.checkAction(action)
	}
	if makes > 1 {
		m.fatalf("%d things are made at once: %v", makes, next.Actions)
	}
}

func (m *model) checkAction(action plan.Action) {
	a := m.agent
	running := a.observed.AnyRunning()
	switch action.Kind {
	case plan.UnmountVolumes, plan.RemoveDirectory:
		if running {
			m.fatalf("%v while a container runs", action)
		}
	case plan.StartContainer:
		if !a.history.Mounted {
			m.fatalf("%v without its volumes", action)
		}
		if c := a.observed.Container(action.Container); c != nil && (c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown) {
			m.fatalf("%v while %s runs", action, c.ID)
		}
		if s := a.observed.Sandbox(); s == nil || !s.Ready || s.ID != action.ID {
			m.fatalf("%v, but the sandbox is %+v", action, s)
		}
	case plan.RunSandbox:
		if s := a.observed.Sandbox(); s != nil && (s.Ready || s.Attempt >= action.Attempt) {
			m.fatalf("%v beside %v", action, s)
		}
	case plan.StopSandbox, plan.RemoveSandbox:
		if running && action.ID == a.observed.Sandbox().ID {
			m.fatalf("%v while a container runs", action)
		}
	case plan.RunPreStop:
		if a.history.Containers[action.Container].PreStopped == action.ID {
			m.fatalf("%v, which was run", action)
		}
	case plan.UpdateContainer:
		if c := a.observed.Container(action.Container); c == nil || c.ID != action.ID || c.State != pod.ContainerRunning {
			m.fatalf("%v of %+v", action, c)
		}
	case plan.RemoveContainer:
		for _, c := range a.observed.Containers {
			if c.ID == action.ID && (c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown) {
				m.fatalf("%v while it runs", action)
			}
		}
	case plan.StopContainer:
		if action.Grace < 2*time.Second {
			m.fatalf("%v has less grace than every container has", action)
		}
	}
}

// checkRestart is called when an action is about to start a container: one
// that has ended starts again only where something asks for it.
func (m *model) checkRestart(t *task, id string) {
	last, ran := m.world.ended[t.Container]
	if c := m.world.container(id); !ran || m.desired == nil || c.State != pod.ContainerCreated {
		return
	}
	c, init := pod.ContainerSpec(m.desired.Pod, t.Container)
	if pod.EphemeralContainer(m.desired.Pod, t.Container) != nil {
		m.fatalf("%v though it is an ephemeral container that ended with %d", t.Action, last.ExitCode)
	}
	if c == nil || last.ID == t.replaces || last.Hash != t.hash || pod.ShouldRestart(m.desired.Pod, c, last.ExitCode) {
		return
	}
	if init && last.SandboxID != t.ID {
		// Everything is initialized again in a new sandbox.
		return
	}
	m.fatalf("%v though it ended with %d", t.Action, last.ExitCode)
}

// checkStatus looks for statuses that are never right, and for what goes back.
func (m *model) checkStatus(before, now *v1.PodStatus) {
	observed := &m.agent.observed
	final := pod.IsTerminal(before.Phase)
	switch {
	case final && now.Phase != before.Phase:
		m.fatalf("phase %s became %s", before.Phase, now.Phase)
	case !final && pod.IsTerminal(now.Phase) && observed.AnyRunning():
		m.fatalf("phase %s while a container runs", now.Phase)
	case now.StartTime == nil, before.StartTime != nil && !before.StartTime.Equal(now.StartTime):
		m.fatalf("start time %v became %v", before.StartTime, now.StartTime)
	}
	if m.desired.Rejection != nil {
		return
	}
	if now.ObservedGeneration != m.desired.Pod.Generation {
		m.fatalf("observed generation %d of %d", now.ObservedGeneration, m.desired.Pod.Generation)
	}
	spec := &m.desired.Pod.Spec
	m.checkContainers(spec.InitContainers, before.InitContainerStatuses, now.InitContainerStatuses, final)
	m.checkContainers(spec.Containers, before.ContainerStatuses, now.ContainerStatuses, final)
	var ephemeral []v1.Container
	for _, e := range spec.EphemeralContainers {
		ephemeral = append(ephemeral, v1.Container(e.EphemeralContainerCommon))
	}
	m.checkContainers(ephemeral, before.EphemeralContainerStatuses, now.EphemeralContainerStatuses, final)
	m.checkConditions(before, now)
}

func (m *model) checkContainers(specs []v1.Container, before, now []v1.ContainerStatus, final bool) {
	if len(specs) != len(now) {
		m.fatalf("%d statuses of %d containers", len(now), len(specs))
	}
	for i := range now {
		s := &now[i]
		states := 0
		for _, set := range []bool{s.State.Waiting != nil, s.State.Running != nil, s.State.Terminated != nil} {
			if set {
				states++
			}
		}
		if states != 1 || s.Name != specs[i].Name || s.Started == nil && specs[i].Name[0] != 'e' {
			m.fatalf("container status %+v", s)
		}
		if c := m.agent.observed.Container(s.Name); (c != nil && c.State == pod.ContainerRunning) != (s.State.Running != nil) {
			m.fatalf("container %s is %+v, its status %+v", s.Name, c, s.State)
		}
		if i >= len(before) {
			continue
		}
		if s.RestartCount < before[i].RestartCount {
			m.fatalf("container %s: restart count %d became %d", s.Name, before[i].RestartCount, s.RestartCount)
		}
		if final && before[i].State.Terminated != nil && s.State.Terminated == nil {
			m.fatalf("container %s of a pod that has ended became %+v", s.Name, s.State)
		}
	}
}

func (m *model) checkConditions(before, now *v1.PodStatus) {
	have := map[v1.PodConditionType]v1.PodCondition{}
	for _, c := range now.Conditions {
		if _, twice := have[c.Type]; twice {
			m.fatalf("two conditions %s", c.Type)
		}
		have[c.Type] = c
		if podstatus.Owned(c.Type) && c.ObservedGeneration != m.desired.Pod.Generation {
			m.fatalf("condition of another generation: %+v", c)
		}
		i := slices.IndexFunc(before.Conditions, func(b v1.PodCondition) bool { return b.Type == c.Type })
		if i >= 0 && before.Conditions[i].Status == c.Status && !before.Conditions[i].LastTransitionTime.Equal(&c.LastTransitionTime) {
			m.fatalf("a condition that stays has another transition: %+v, then %+v", before.Conditions[i], c)
		}
	}
	for _, want := range []v1.PodConditionType{v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled} {
		if _, ok := have[want]; !ok {
			m.fatalf("no condition %s", want)
		}
	}
	if have[v1.PodReady].Status == v1.ConditionTrue && have[v1.ContainersReady].Status != v1.ConditionTrue {
		m.fatalf("Ready without ContainersReady")
	}
	if have[v1.ContainersReady].Status == v1.ConditionTrue {
		for _, s := range now.ContainerStatuses {
			if s.State.Running == nil {
				m.fatalf("ContainersReady while %s does not run", s.Name)
			}
		}
	}
}

// calm lets time pass in a world in which everything goes well, until nothing is
// to be done and nothing waited for, and then checks where the pod has come to.
func (m *model) calm() {
	m.agent.ready = true
	// What is left of the choices would have things fail.
	m.choose.data = nil
	const patience = 2000
	for range patience {
		m.soothe()
		a := m.agent
		idle := len(a.tasks) == 0 && len(m.late) == 0 && !a.stale
		m.step()
		if idle && len(a.last.Actions) == 0 && a.last.Wake.IsZero() && !m.soothe() {
			m.checkRest()
			return
		}
		m.world.now = m.world.now.Add(time.Second)
		if a.last.Wake.After(m.world.now) {
			m.world.now = a.last.Wake
		}
	}
	m.fatalf("no rest")
}

// soothe has everything go well: probes succeed, init containers end. It
// reports whether anything changed.
func (m *model) soothe() (changed bool) {
	a := m.agent
	if a.status != nil && m.desired != nil && !reflect.DeepEqual(*a.status, m.published) {
		m.published, changed = *a.status.DeepCopy(), true
		m.hear()
	}
	for i := range m.world.containers {
		c := &m.world.containers[i]
		if c.State == pod.ContainerUnknown {
			c.State, changed = pod.ContainerRunning, true
		}
		if c.State != pod.ContainerRunning || m.desired == nil {
			continue
		}
		spec, init := pod.ContainerSpec(m.desired.Pod, c.Name)
		runs := !init && (!m.ends || pod.ShouldRestart(m.desired.Pod, spec, 0)) || init && pod.IsSidecar(spec)
		if !runs {
			m.world.exit(c, 0, "Completed")
			changed = true
		}
		good := pod.ProbeResults{ContainerID: c.ID, Liveness: pod.ResultSuccess, Readiness: pod.ResultSuccess, Startup: pod.ResultSuccess}
		changed = changed || a.probes[c.Name] != good
		a.probes[c.Name] = good
	}
	if !a.stale {
		a.observed = m.world.snapshot()
	}
	return changed
}

// checkRest checks that a pod at rest is where it should be.
func (m *model) checkRest() {
	w, d, last := m.world, m.desired, m.agent.last
	for _, s := range w.sandboxes {
		if s.Ready && last.Phase != pod.Syncing {
			m.fatalf("the sandbox is left")
		}
	}
	gone := d == nil || !d.Removed.IsZero() || d.Pod.DeletionTimestamp != nil
	switch {
	case gone && (!last.Gone || len(w.sandboxes)+len(w.containers) > 0):
		m.fatalf("at rest, but not gone")
	case d == nil:
		return
	case last.Phase == pod.Terminating:
		m.fatalf("at rest while it is to end")
	case last.Phase == pod.Terminated:
		if !pod.IsTerminal(m.agent.status.Phase) && d.Source == pod.SourceAPI {
			m.fatalf("at rest in phase %s", m.agent.status.Phase)
		}
	default:
		m.checkRuns()
	}
}

// checkRuns checks that everything runs that is to run.
func (m *model) checkRuns() {
	p, status := m.desired.Pod, m.agent.status
	snapshot := m.world.snapshot()
	running := 0
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			c := snapshot.Container(list[i].Name)
			_, init := pod.ContainerSpec(p, list[i].Name)
			switch {
			case c != nil && c.State == pod.ContainerRunning:
				if want := pod.ResourcesOf(list[i].Resources); c.Resources != nil && *c.Resources != want {
					m.fatalf("at rest %s has %+v, not %+v", c.ID, *c.Resources, want)
				}
				running++
			case init && !pod.IsSidecar(&list[i]):
			case c == nil || pod.ShouldRestart(p, &list[i], c.ExitCode):
				m.fatalf("at rest, but %s is %+v", list[i].Name, c)
			}
		}
	}
	if running == 0 || status.Phase != v1.PodRunning {
		m.fatalf("at rest in phase %s, and %d containers run", status.Phase, running)
	}
}
