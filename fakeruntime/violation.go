package fakeruntime

import (
	"fmt"
	"slices"

	"nodelet/agent/pod"
)

// maxViolations bounds what is kept: the first ones tell the most.
const maxViolations = 100

// Violations are the things done to the Runtime, in order, that a correct agent
// never does, whatever happens around it:
//   - two incarnations of a container run at once;
//   - two sandboxes of a pod are ready at once;
//   - a container is started in a sandbox that was not ready any more when the
//     call came, unless the sandbox died by itself (KillSandbox).
func (r *Runtime) Violations() []string {
	r.lock()
	defer r.unlock()
	return slices.Clone(r.violations)
}

func (r *Runtime) violated(p *podState, format string, args ...any) {
	if len(r.violations) < maxViolations {
		r.violations = append(r.violations, fmt.Sprintf("%s pod %s/%s (%s): %s",
			r.now.UTC().Format("15:04:05.000"), p.namespace, p.name, p.uid, fmt.Sprintf(format, args...)))
	}
}

// checkSandbox is called when a sandbox of a pod has become ready.
func (r *Runtime) checkSandbox(s *sandbox) {
	for _, other := range s.owner.sandboxes {
		if other != s && other.Ready {
			r.violated(s.owner, "sandbox %d runs while sandbox %d is still ready", s.Attempt, other.Attempt)
		}
	}
}

// checkStart is called when the agent asks for a container to be started.
func (r *Runtime) checkStart(c *container) {
	if !c.sandbox.Ready && !c.sandbox.died {
		r.violated(c.owner, "container %s, attempt %d, started in sandbox %d, which is not ready",
			c.Name, c.Attempt, c.sandbox.Attempt)
	}
}

// checkRunning is called when a container has begun to run.
func (r *Runtime) checkRunning(c *container) {
	for _, other := range c.owner.containers {
		if other != c && other.Name == c.Name && other.State == pod.ContainerRunning {
			r.violated(c.owner, "container %s runs twice: attempts %d and %d", c.Name, other.Attempt, c.Attempt)
		}
	}
}
