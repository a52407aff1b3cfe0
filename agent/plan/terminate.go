package plan

import (
	"slices"
	"time"

	"nodelet/agent/pod"
)

// MinimumGrace is what every container gets at least, as with the kubelet.
const MinimumGrace = 2 * time.Second

// evictionGrace is what a pod gets that is evicted for what it uses.
const evictionGrace = time.Second

// terminate plans for a pod that is to end: containers first, sidecars after
// them in reverse order, then the sandbox; and of a pod that is to vanish
// everything is removed.
func (p *planner) terminate() {
	if p.result.End == nil {
		p.result.End = p.History.End
	}
	p.result.Phase = pod.Terminating
	p.result.Waiting = nil
	if p.stopContainers() || p.making() {
		return
	}
	stopped := true
	for i := range p.Observed.Sandboxes {
		if s := &p.Observed.Sandboxes[i]; s.Ready {
			stopped = false
			p.do(Action{Kind: StopSandbox, ID: s.ID})
		}
	}
	if !stopped {
		return
	}
	p.result.Phase = pod.Terminated
	if !p.History.Unmounted {
		p.do(Action{Kind: UnmountVolumes})
	}
	if p.vanishes() && (p.Told || !p.awaited()) {
		p.removeAll()
	}
}

// vanishes reports whether nothing is to remain of the pod on this node.
func (p *planner) vanishes() bool {
	d := p.Desired
	return d == nil || !d.Removed.IsZero() || d.Pod.DeletionTimestamp != nil
}

// awaited reports whether somebody may want to know how the pod ended, and nothing but
// its containers says so.
func (p *planner) awaited() bool {
	return p.Desired != nil && p.Desired.Removed.IsZero() && len(p.Observed.Containers) > 0
}

func (p *planner) removeAll() {
	sandboxes := map[string]bool{}
	for i := range p.Observed.Sandboxes {
		s := &p.Observed.Sandboxes[i]
		sandboxes[s.ID] = true
		p.do(Action{Kind: RemoveSandbox, ID: s.ID})
	}
	for i := range p.Observed.Containers {
		if c := &p.Observed.Containers[i]; !sandboxes[c.SandboxID] {
			p.do(Action{Kind: RemoveContainer, ID: c.ID, Container: c.Name})
		}
	}
	if !p.Observed.Empty() || !p.History.Unmounted {
		return
	}
	if !p.History.Removed {
		p.do(Action{Kind: RemoveDirectory})
	}
	p.result.Gone = p.History.Removed
}

// stopContainers stops what runs and reports whether anything still does.
func (p *planner) stopContainers() bool {
	var sidecars []*pod.Container
	running := false
	for i := range p.Observed.Containers {
		c := &p.Observed.Containers[i]
		if c.State != pod.ContainerRunning && c.State != pod.ContainerUnknown {
			continue
		}
		if p.isSidecar(c.Name) {
			sidecars = append(sidecars, c)
			continue
		}
		running = true
		p.end(c, p.graceOf(c))
	}
	if !running {
		p.stopSidecars(sidecars)
	}
	for _, c := range sidecars {
		p.preStop(c)
	}
	return running || len(sidecars) > 0
}

func (p *planner) isSidecar(name string) bool {
	if p.Desired == nil {
		return false
	}
	c, init := pod.ContainerSpec(p.Desired.Pod, name)
	return init && pod.IsSidecar(c)
}

// stopSidecars stops the last one in the spec's order, or all once the grace
// period is over.
func (p *planner) stopSidecars(running []*pod.Container) {
	if len(running) == 0 {
		return
	}
	since := p.History.TerminatingSince
	if since.IsZero() {
		since = p.Now
	}
	left := since.Add(p.grace()).Sub(p.Now)
	inits := p.Desired.Pod.Spec.InitContainers
	for i := len(inits) - 1; i >= 0; i-- {
		for _, c := range running {
			if c.Name != inits[i].Name {
				continue
			}
			p.end(c, left)
			if left > 0 {
				p.wakeAt(p.Now.Add(left))
				return
			}
		}
	}
}

// preStop runs a sidecar's hook as soon as the pod is to end, though the sidecar
// itself is stopped in its turn.
func (p *planner) preStop(c *pod.Container) {
	stop := Action{Kind: StopContainer, ID: c.ID}.Key()
	_, stopping := p.History.InFlight[stop]
	stopping = stopping || slices.ContainsFunc(p.result.Actions, func(a Action) bool { return a.Key() == stop })
	if c.PreStop == nil || stopping || p.History.Containers[c.Name].PreStopped == c.ID {
		return
	}
	p.do(Action{Kind: RunPreStop, ID: c.ID, Container: c.Name})
}

// end stops a container within grace. A stop that is under way with a longer
// grace is overtaken.
func (p *planner) end(c *pod.Container, grace time.Duration) {
	a := p.stopAction(c, grace, "")
	if under, busy := p.History.InFlight[a.Key()]; busy && p.overtakes(under, a) {
		p.result.Actions = append(p.result.Actions, a)
		return
	}
	p.do(a)
}

// stopAction stops a container, for the reason that the event is to tell if there
// is one.
func (p *planner) stopAction(c *pod.Container, grace time.Duration, message string) Action {
	a := Action{Kind: StopContainer, ID: c.ID, Container: c.Name, Grace: max(grace, MinimumGrace), Message: message}
	if message == "" {
		a.Message = StoppingMessage(c.Name)
	}
	if c.PreStop != nil {
		a.PreStop = max(grace, 0)
	}
	return a
}

// StoppingMessage is the message of the event for a container that is stopped for its
// pod's sake.
func StoppingMessage(container string) string { return "Stopping container " + container }

// overtakes reports whether a's end would come before that of a stop under way.
// Sidecars share one deadline, so theirs never does.
func (p *planner) overtakes(under, a Action) bool {
	return !p.isSidecar(a.Container) && a.Grace < under.Grace
}

// graceOf is how long a container may take to end.
func (p *planner) graceOf(c *pod.Container) time.Duration {
	if p.Desired == nil {
		return c.TerminationGrace
	}
	return p.grace()
}

// grace is how long the pod may take to end.
func (p *planner) grace() time.Duration {
	grace := time.Duration(pod.TerminationGrace(p.Desired.Pod)) * time.Second
	if p.Desired.Evicted != "" {
		grace = min(grace, evictionGrace)
	}
	return grace
}
