package fakeruntime

import (
	"fmt"
	"maps"
	"slices"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// SetScript has all containers behave otherwise from now on, those that run
// too: what they should have done before now, by the new script, they do now. A
// container that was asked to end does so as before.
func (r *Runtime) SetScript(script Script) {
	r.lock()
	defer r.unlock()
	if script == nil {
		script = DefaultScript
	}
	r.script = script
	// In order of IDs, so that runs repeat.
	for _, id := range slices.Sorted(maps.Keys(r.containers)) {
		if c := r.containers[id]; c.State == pod.ContainerRunning && !c.asked {
			r.planEnd(c, r.behavior(c))
		}
	}
}

// PowerOff takes the machine's power: everything that runs is dead at once, and
// calls fail, those under way too.
func (r *Runtime) PowerOff() {
	r.lock()
	defer r.unlock()
	if r.off {
		return
	}
	r.off = true
	for _, s := range r.sandboxes {
		r.stopSandbox(s, exitLost)
	}
	for _, c := range r.containers {
		c.starting = 0
	}
	// What was under way is cut off.
	for len(r.timeline.queue) > 0 {
		h := r.timeline.queue[0]
		r.cancel(h)
		h.do()
	}
	// Nobody is left to be told.
	r.dirty = nil
}

// PowerOn gives the power back. What existed is listed, as after the reboot of
// a Docker host: containers that ran have exited with code 255, sandboxes are
// not ready.
func (r *Runtime) PowerOn() {
	r.lock()
	defer r.unlock()
	r.off = false
}

// KillContainer ends the newest incarnation of a running container from
// outside, as with exit code 137 and reason OOMKilled. The error says that no
// such container runs; podruntime.IsNotFound holds for it.
func (r *Runtime) KillContainer(uid pod.UID, name string, exitCode int32, reason string) error {
	r.lock()
	defer r.unlock()
	if p := r.pods[uid]; p != nil {
		for _, c := range p.containers {
			if c.Name == name && c.State == pod.ContainerRunning {
				r.end(c, exitCode, reason, "")
				return nil
			}
		}
	}
	return fmt.Errorf("killing a container of pod %s: %w", uid, podruntime.NotFound("running container", name))
}

// KillSandbox ends a pod's sandbox, and with it all that runs in it, as if its
// pause process had died. The error is as KillContainer's.
func (r *Runtime) KillSandbox(uid pod.UID) error {
	r.lock()
	defer r.unlock()
	if p := r.pods[uid]; p != nil {
		for _, s := range p.sandboxes {
			if s.Ready {
				s.died = true
				r.stopSandbox(s, exitKilled)
				return nil
			}
		}
	}
	return fmt.Errorf("killing a sandbox: %w", podruntime.NotFound("ready sandbox of pod", string(uid)))
}
