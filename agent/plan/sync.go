package plan

import (
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// lostExitCode stands for the unknown exit of a container that ran and is no
// longer in the runtime.
const lostExitCode = 137

// sync plans for a pod that is to run.
func (p *planner) sync() {
	if p.allDone() {
		p.finished = true
		return
	}
	if !p.mounted() {
		return
	}
	p.stopUnwanted()
	sandbox := p.Observed.Sandbox()
	if sandbox == nil || !sandbox.Ready {
		p.replaceSandbox(sandbox)
		return
	}
	p.prune()
	p.startEphemeral(sandbox)
	if !p.initialize(sandbox) {
		return
	}
	for i := range p.Desired.Pod.Spec.Containers {
		p.syncContainer(sandbox, &p.Desired.Pod.Spec.Containers[i])
	}
}

// startEphemeral starts the ephemeral containers that were added to the pod, also
// while it is initialized. They are never started again.
func (p *planner) startEphemeral(sandbox *pod.Sandbox) {
	for i := range p.Desired.Pod.Spec.EphemeralContainers {
		c := v1.Container(p.Desired.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		cur, status := p.Observed.Container(c.Name), containerStatus(p.Desired.Pod, c.Name)
		begun := cur != nil && cur.State != pod.ContainerCreated || cur == nil && status != nil && status.ContainerID != "" ||
			p.History.Containers[c.Name].Incarnations > 0
		if !begun {
			p.start(sandbox, &c, 0, Backoff{})
		}
	}
}

// mounted reports whether the pod's volumes are there; if not, nothing else of
// the pod is touched.
func (p *planner) mounted() bool {
	if p.History.Mounted {
		return true
	}
	if f := p.History.Mount; !f.IsZero() && p.Now.Before(f.RetryAt) {
		p.wakeAt(f.RetryAt)
		return false
	}
	p.do(Action{Kind: MountVolumes})
	return false
}

// allDone reports whether nothing of the pod is to be started any more: an init
// container has failed for good, or every container has ended for good.
func (p *planner) allDone() bool {
	spec := &p.Desired.Pod.Spec
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		if code, ended := p.exit(c); ended && code != 0 && !pod.IsSidecar(c) && !p.restarts(c, code) {
			return true
		}
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if code, ended := p.exit(c); !ended || p.restarts(c, code) {
			return false
		}
	}
	return true
}

// restarts reports whether a container that ended is to be started again.
func (p *planner) restarts(c *v1.Container, code int32) bool {
	cur := p.Observed.Container(c.Name)
	replaced := cur != nil && p.History.Containers[c.Name].Replace == cur.ID
	return replaced || pod.ShouldRestart(p.Desired.Pod, c, code)
}

// exit returns how the container's newest incarnation ended, if it has. One
// that the runtime no longer has is judged by the pod's status.
func (p *planner) exit(c *v1.Container) (code int32, ended bool) {
	if cur := p.Observed.Container(c.Name); cur != nil {
		return cur.ExitCode, cur.State == pod.ContainerExited
	}
	if status := containerStatus(p.Desired.Pod, c.Name); status != nil {
		switch {
		case status.State.Terminated != nil:
			return status.State.Terminated.ExitCode, true
		case status.State.Running != nil:
			return lostExitCode, true
		}
	}
	return 0, false
}

func containerStatus(p *v1.Pod, name string) *v1.ContainerStatus {
	s := &p.Status
	for _, list := range [][]v1.ContainerStatus{s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

// stopUnwanted stops containers that the pod's spec no longer names.
func (p *planner) stopUnwanted() {
	for i := range p.Observed.Containers {
		c := &p.Observed.Containers[i]
		if s, _ := pod.ContainerSpec(p.Desired.Pod, c.Name); s != nil {
			continue
		}
		if c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown {
			p.do(p.stopAction(c, p.grace(), ""))
		} else {
			p.do(Action{Kind: RemoveContainer, ID: c.ID, Container: c.Name})
		}
	}
}

// replaceSandbox makes the pod's first sandbox, or a new one in the place of
// one that died: whatever runs outside a ready sandbox is stopped first.
func (p *planner) replaceSandbox(old *pod.Sandbox) {
	stopping := false
	for i := range p.Observed.Containers {
		if c := &p.Observed.Containers[i]; c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown {
			stopping = true
			p.do(p.stopAction(c, p.grace(), ""))
		}
	}
	if stopping {
		return
	}
	// A pod that never restarts has had its one life.
	if old != nil && len(p.Observed.Containers) > 0 && !p.mayRestart() {
		p.finished = true
		return
	}
	if f := p.History.Sandbox; !f.IsZero() && p.Now.Before(f.RetryAt) {
		p.wakeAt(f.RetryAt)
		return
	}
	a := Action{Kind: RunSandbox}
	if old != nil {
		a.Attempt = old.Attempt + 1
	}
	p.do(a)
}

// mayRestart reports whether some container of the pod may be started twice.
func (p *planner) mayRestart() bool {
	spec := &p.Desired.Pod.Spec
	if spec.RestartPolicy != v1.RestartPolicyNever {
		return true
	}
	for i := range spec.Containers {
		if c := &spec.Containers[i]; c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0 {
			return true
		}
	}
	return false
}

// prune removes what no status needs any more: all but the newest dead
// incarnation of each container, and empty old sandboxes.
func (p *planner) prune() {
	dead := map[string]int{}
	used := map[string]bool{}
	for i := range p.Observed.Containers {
		c := &p.Observed.Containers[i]
		used[c.SandboxID] = true
		if c.State != pod.ContainerExited {
			continue
		}
		if dead[c.Name]++; dead[c.Name] > 1 {
			p.do(Action{Kind: RemoveContainer, ID: c.ID, Container: c.Name})
		}
	}
	for i := range p.Observed.Sandboxes {
		if s := &p.Observed.Sandboxes[i]; i > 0 && !used[s.ID] {
			p.do(Action{Kind: RemoveSandbox, ID: s.ID})
		}
	}
}

// syncContainer sees to it that one container runs, or rests as it should.
func (p *planner) syncContainer(sandbox *pod.Sandbox, c *v1.Container) {
	cur := p.Observed.Container(c.Name)
	if cur == nil {
		p.start(sandbox, c, p.nextAttempt(c), p.History.Containers[c.Name].Restart)
		return
	}
	switch cur.State {
	case pod.ContainerRunning:
		p.checkRunning(sandbox, c, cur)
	case pod.ContainerUnknown:
		p.stop(c, cur, fmt.Sprintf("Container %s is in unknown state, try killing it before restart", c.Name), p.grace())
	case pod.ContainerCreated:
		// An agent that died between creating and starting leaves this. The
		// runtime gives the same container again, or one in the new sandbox.
		attempt := cur.Attempt
		if cur.SandboxID != sandbox.ID {
			attempt = p.nextAttempt(c)
		}
		p.start(sandbox, c, attempt, p.History.Containers[c.Name].Restart)
	case pod.ContainerExited:
		if p.restarts(c, cur.ExitCode) {
			p.restart(sandbox, c, cur)
		}
	}
}

// nextAttempt is the number of a container's next incarnation: one more than
// that of the newest in the runtime or, where that has lost newer ones, of the
// newest that was seen or is in the pod's status.
func (p *planner) nextAttempt(c *v1.Container) uint32 {
	next := p.History.Containers[c.Name].Incarnations
	if cur := p.Observed.Container(c.Name); cur != nil {
		next = max(next, cur.Attempt+1)
	}
	status := containerStatus(p.Desired.Pod, c.Name)
	if status != nil && (status.ContainerID != "" || status.LastTerminationState.Terminated != nil) {
		next = max(next, uint32(status.RestartCount)+1)
	}
	return next
}

// checkRunning stops a running container that is not what it should be.
func (p *planner) checkRunning(sandbox *pod.Sandbox, c *v1.Container, cur *pod.Container) {
	if p.starting(c.Name) && c.Lifecycle != nil && c.Lifecycle.PostStart != nil {
		p.wait(c.Name, "", "")
		return
	}
	probes := p.Probes.Of(c.Name, cur.ID)
	_, isInit := pod.ContainerSpec(p.Desired.Pod, c.Name)
	label := "Container"
	if isInit {
		label = "Init container"
	}
	var message string
	grace := p.grace()
	again := pod.ShouldRestart(p.Desired.Pod, c, lostExitCode)
	switch {
	case cur.SandboxID != sandbox.ID:
		message = fmt.Sprintf("Stopping container %s", c.Name)
	case cur.Hash != pod.ContainerHash(c):
		message, again = fmt.Sprintf("%s %s definition changed", label, c.Name), true
	case c.StartupProbe != nil && probes.Startup == pod.ResultFailure:
		message, grace = fmt.Sprintf("%s %s failed startup probe", label, c.Name), p.probeGrace(c.StartupProbe)
	case c.LivenessProbe != nil && probes.Liveness == pod.ResultFailure:
		message, grace = fmt.Sprintf("%s %s failed liveness probe", label, c.Name), p.probeGrace(c.LivenessProbe)
	default:
		p.resize(c, cur)
		return
	}
	if again {
		message += ", will be restarted"
	}
	p.stop(c, cur, message, grace)
}

func (p *planner) probeGrace(probe *v1.Probe) time.Duration {
	if s := probe.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return p.grace()
}

func (p *planner) stop(c *v1.Container, cur *pod.Container, message string, grace time.Duration) {
	a := p.stopAction(cur, grace, message)
	a.Replace = cur.Hash != pod.ContainerHash(c)
	p.do(a)
}

// restart starts the next incarnation of a dead container, unless it is backed
// off.
func (p *planner) restart(sandbox *pod.Sandbox, c *v1.Container, dead *pod.Container) {
	at := dead.FinishedAt
	if at.IsZero() {
		at = dead.CreatedAt
	}
	backoff := p.History.Containers[c.Name].Restart.WhenFor(backedOff(c))
	if until := backoff.Until(dead.ID, at, p.Backoff.RestartMax); p.Now.Before(until) {
		p.wakeAt(until)
		p.wait(c.Name, ReasonCrashLoopBackOff, fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
			backoff.Delay, c.Name, p.Desired.Pod.Name, p.Desired.Pod.Namespace, p.Desired.UID()))
		return
	}
	p.start(sandbox, c, p.nextAttempt(c), backoff.Next(dead.ID, at, p.Backoff.RestartInitial, p.Backoff.RestartMax))
}

// backedOff is what a container's crash-loop back-off is for: another image, or
// other resources, may do better.
func backedOff(c *v1.Container) string { return c.Image + " " + c.Resources.String() }

// start starts a container, one at a time in a pod, unless the last attempt
// failed a short while ago.
func (p *planner) start(sandbox *pod.Sandbox, c *v1.Container, attempt uint32, restart Backoff) {
	if f := p.History.Containers[c.Name].Failure; !f.IsZero() && f.For == c.Image {
		p.waitFailed(c.Name, f)
		if p.Now.Before(f.RetryAt) {
			p.wakeAt(f.RetryAt)
			return
		}
	}
	for _, a := range p.result.Actions {
		if a.Makes() {
			return
		}
	}
	p.do(Action{Kind: StartContainer, ID: sandbox.ID, Container: c.Name, Attempt: attempt, Image: c.Image, Restart: restart})
}

// waitFailed says why a container that could not be started waits. A failed
// pull is called a back-off once the initial delay is over.
func (p *planner) waitFailed(name string, f Failure) {
	if f.Pull {
		if since := f.At.Add(p.Backoff.PullInitial); p.Now.Before(since) {
			p.wakeAt(since)
		} else {
			p.wait(name, ReasonImagePullBackOff, f.BackoffMessage)
			return
		}
	}
	p.wait(name, f.Reason, f.Message)
}
