package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// world is the runtime as it really is, which the agent sees a little later. It
// keeps the rules of podruntime.
type world struct {
	now        time.Time
	sandboxes  []pod.Sandbox
	containers []pod.Container
	serial     int
	// ended is the last run of each container, as far as anybody can know it.
	ended map[string]pod.Container
	// fault is the first thing that was done to the world and must never be.
	fault error
}

// snapshot is what a look at the runtime shows now.
func (w *world) snapshot() pod.Observed {
	return pod.Observed{UID: "u1", Namespace: "default", Name: "p", At: w.now,
		Sandboxes: slices.Clone(w.sandboxes), Containers: slices.Clone(w.containers)}
}

func (w *world) violated(format string, args ...any) {
	if w.fault == nil {
		w.fault = fmt.Errorf(format, args...)
	}
}

func (w *world) newID(what string, attempt uint32) string {
	w.serial++
	return fmt.Sprintf("%s-%d-%d", what, attempt, w.serial)
}

func (w *world) sandbox(id string) *pod.Sandbox {
	for i := range w.sandboxes {
		if w.sandboxes[i].ID == id {
			return &w.sandboxes[i]
		}
	}
	return nil
}

func (w *world) container(id string) *pod.Container {
	for i := range w.containers {
		if w.containers[i].ID == id {
			return &w.containers[i]
		}
	}
	return nil
}

func (w *world) runSandbox(attempt uint32) {
	for _, s := range w.sandboxes {
		switch {
		case s.Attempt == attempt && s.Ready:
			return
		case s.Ready:
			w.violated("sandbox %d is made while %d is ready", attempt, s.Attempt)
		}
	}
	w.sandboxes = slices.DeleteFunc(w.sandboxes, func(s pod.Sandbox) bool { return s.Attempt == attempt })
	w.sandboxes = slices.Insert(w.sandboxes, 0, pod.Sandbox{ID: w.newID("s", attempt), Attempt: attempt, Ready: true,
		CreatedAt: w.now, IPs: []string{"10.1.0.1"}})
}

func (w *world) create(sandboxID, name string, attempt uint32, hash string) (string, error) {
	s := w.sandbox(sandboxID)
	if s == nil || !s.Ready {
		return "", errors.New("no ready sandbox")
	}
	for i, c := range w.containers {
		if c.Name != name || c.Attempt != attempt {
			continue
		}
		if c.State != pod.ContainerCreated {
			return "", errors.New("the name is in use")
		}
		if c.SandboxID == sandboxID {
			return c.ID, nil
		}
		w.containers = slices.Delete(w.containers, i, i+1)
		break
	}
	id := w.newID(name, attempt)
	w.containers = slices.Insert(w.containers, 0, pod.Container{ID: id, Name: name, SandboxID: sandboxID, Attempt: attempt,
		State: pod.ContainerCreated, Hash: hash, CreatedAt: w.now, Image: "img", TerminationGrace: 7 * time.Second})
	return id, nil
}

func (w *world) start(id string) error {
	c := w.container(id)
	switch {
	case c == nil || c.State == pod.ContainerExited:
		return errors.New("not to be started")
	case c.State != pod.ContainerCreated:
		return nil
	}
	if s := w.sandbox(c.SandboxID); s == nil || !s.Ready {
		return errors.New("no ready sandbox")
	}
	for _, other := range w.containers {
		if other.Name == c.Name && other.ID != id && other.State != pod.ContainerExited && other.State != pod.ContainerCreated {
			w.violated("two of %s run: %s and %s", c.Name, other.ID, id)
		}
	}
	c.State, c.StartedAt = pod.ContainerRunning, w.now
	return nil
}

// exit ends a container if it runs.
func (w *world) exit(c *pod.Container, code int32, reason string) {
	if c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown {
		c.State, c.FinishedAt, c.ExitCode, c.Reason = pod.ContainerExited, w.now, code, reason
		w.ended[c.Name] = *c
	}
}

// lose is the loss of what is known of a container that does not run.
func (w *world) lose(c *pod.Container) {
	if c.State != pod.ContainerExited && c.State != pod.ContainerCreated {
		return
	}
	delete(w.ended, c.Name)
	id := c.ID
	w.containers = slices.DeleteFunc(w.containers, func(c pod.Container) bool { return c.ID == id })
}

// stopSandbox kills what is in a sandbox.
func (w *world) stopSandbox(s *pod.Sandbox) {
	s.Ready, s.IPs = false, nil
	for i := range w.containers {
		if c := &w.containers[i]; c.SandboxID == s.ID {
			w.exit(c, 137, "Error")
		}
	}
}

// end does what an action that ends something says.
func (w *world) end(a plan.Action) {
	switch a.Kind {
	case plan.StopContainer:
		if c := w.container(a.ID); c != nil {
			w.exit(c, 143, "Error")
		}
	case plan.UpdateContainer:
		if c := w.container(a.ID); c != nil && c.State != pod.ContainerExited {
			c.Resources = &a.Resources
		}
	case plan.StopSandbox:
		if s := w.sandbox(a.ID); s != nil {
			w.stopSandbox(s)
		}
	case plan.RemoveSandbox:
		w.sandboxes = slices.DeleteFunc(w.sandboxes, func(s pod.Sandbox) bool { return s.ID == a.ID })
		w.containers = slices.DeleteFunc(w.containers, func(c pod.Container) bool { return c.SandboxID == a.ID })
	case plan.RemoveContainer:
		w.containers = slices.DeleteFunc(w.containers, func(c pod.Container) bool { return c.ID == a.ID })
	}
}

// loseSandboxes is the end of sandboxes by themselves. What is in them may run
// on, as with Docker, or end, as when the machine loses power.
func (w *world) loseSandboxes(runsOn bool) {
	for i := range w.sandboxes {
		if s := &w.sandboxes[i]; runsOn {
			s.Ready, s.IPs = false, nil
		} else {
			w.stopSandbox(s)
		}
	}
}
