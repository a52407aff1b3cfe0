package plan

import (
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// initialize brings the init containers forward, in order, and reports whether
// the pod's containers may be started. Sidecars go on being looked after for as
// long as the pod runs.
func (p *planner) initialize(sandbox *pod.Sandbox) bool {
	spec := &p.Desired.Pod.Spec
	started := p.startedIn(sandbox)
	begun := p.begunInit(sandbox)
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		switch {
		case i < begun && !pod.IsSidecar(c) && p.Observed.Container(c.Name) == nil:
			// It has succeeded, and the runtime has lost it since.
		case pod.IsSidecar(c):
			p.syncContainer(sandbox, c)
			if !started && !p.isStarted(sandbox, c) {
				return false
			}
		case !started && !p.runInit(sandbox, c):
			return false
		}
	}
	return true
}

// begunInit is the place of the last init container that has begun in the sandbox.
func (p *planner) begunInit(sandbox *pod.Sandbox) (place int) {
	for i := range p.Desired.Pod.Spec.InitContainers {
		if c := p.Observed.Container(p.Desired.Pod.Spec.InitContainers[i].Name); c != nil && c.SandboxID == sandbox.ID {
			place = i
		}
	}
	return place
}

// startedIn reports whether some container of the pod has been started in the
// sandbox, so that initialization was complete.
func (p *planner) startedIn(sandbox *pod.Sandbox) bool {
	for i := range p.Observed.Containers {
		c := &p.Observed.Containers[i]
		if c.SandboxID != sandbox.ID {
			continue
		}
		if s, init := pod.ContainerSpec(p.Desired.Pod, c.Name); s != nil && !init && pod.EphemeralContainer(p.Desired.Pod, c.Name) == nil {
			return true
		}
	}
	return false
}

// isStarted reports whether a sidecar runs and has passed its startup probe.
func (p *planner) isStarted(sandbox *pod.Sandbox, c *v1.Container) bool {
	cur := p.Observed.Container(c.Name)
	if cur == nil || cur.State != pod.ContainerRunning || cur.SandboxID != sandbox.ID {
		return false
	}
	return c.StartupProbe == nil || p.Probes.Of(c.Name, cur.ID).Startup == pod.ResultSuccess
}

// runInit brings one init container to its end and reports whether it has
// succeeded in this sandbox.
func (p *planner) runInit(sandbox *pod.Sandbox, c *v1.Container) bool {
	cur := p.Observed.Container(c.Name)
	if cur != nil && cur.SandboxID != sandbox.ID && cur.State == pod.ContainerExited {
		// Everything is initialized again in a new sandbox.
		p.start(sandbox, c, p.nextAttempt(c), p.History.Containers[c.Name].Restart)
		return false
	}
	if cur != nil && cur.State == pod.ContainerExited && cur.ExitCode == 0 {
		return true
	}
	if cur != nil && cur.State == pod.ContainerExited {
		// A failed init container is tried again unless the pod never restarts;
		// then the pod has failed and this is not reached.
		p.restart(sandbox, c, cur)
		return false
	}
	p.syncContainer(sandbox, c)
	return false
}
