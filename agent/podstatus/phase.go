package podstatus

import (
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// setPhase sets phase, reason and message, and returns the phase that the pod
// comes to, for its conditions. A phase that is final stays, and none is told
// before nothing of the pod runs any more, nor ever will.
func (in *Input) setPhase(status *v1.PodStatus) (comes v1.PodPhase) {
	old := in.Previous
	if final := in.finalPhase(); final != "" {
		status.Phase, status.Reason, status.Message = final, old.Reason, old.Message
		return final
	}
	comes = in.phaseOf(status)
	switch {
	case in.End != nil:
		comes, status.Reason, status.Message = v1.PodFailed, in.End.Reason, in.End.Message
	case in.Phase == pod.Syncing && pod.IsTerminal(comes):
		// Something is to run yet: a container that was stopped to be replaced,
		// for one, whatever its restart policy.
		comes = v1.PodRunning
	case in.Phase == pod.Terminated && !pod.IsTerminal(comes) && in.Desired.Source == pod.SourceAPI:
		comes = v1.PodFailed
	}
	status.Phase = comes
	if pod.IsTerminal(comes) && in.Phase != pod.Terminated {
		status.Phase, status.Reason, status.Message = old.Phase, "", ""
		if status.Phase == "" {
			status.Phase = v1.PodPending
		}
	}
	if status.Phase == old.Phase && status.Reason == "" {
		status.Reason, status.Message = old.Reason, old.Message
	}
	return comes
}

// finalPhase is the phase that the pod ended in before, or "".
func (in *Input) finalPhase() v1.PodPhase {
	if pod.IsTerminal(in.Previous.Phase) {
		return in.Previous.Phase
	}
	if pod.IsTerminal(in.Desired.Pod.Status.Phase) {
		return in.Desired.Pod.Status.Phase
	}
	return ""
}

// tally counts containers by what they do.
type tally struct {
	running, waiting, unknown int
	// stopped have run and do not; ended of them will not run again, and
	// succeeded ended with status 0.
	stopped, ended, succeeded int
}

// phaseOf derives the phase from the containers' states.
func (in *Input) phaseOf(status *v1.PodStatus) v1.PodPhase {
	spec := &in.Desired.Pod.Spec
	var t tally
	pending, failed := in.tallyInit(status, &t)
	if failed {
		return v1.PodFailed
	}
	for i := range spec.Containers {
		in.tallyContainer(&spec.Containers[i], find(status.ContainerStatuses, spec.Containers[i].Name), &t)
	}
	switch {
	case pending || t.waiting > 0:
		return v1.PodPending
	case t.running > 0 && t.unknown == 0:
		return v1.PodRunning
	case t.stopped == 0 || t.unknown > 0:
		return v1.PodPending
	case in.Phase != pod.Terminated && t.stopped != t.ended:
		// Some are to be restarted; of a pod that is to end, what became of it
		// is said when nothing of it is left.
		return v1.PodRunning
	case t.stopped == t.succeeded:
		return v1.PodSucceeded
	}
	return v1.PodFailed
}

// tallyInit looks at the init containers: pending says that initialization is
// not complete, failed that it never will be.
func (in *Input) tallyInit(status *v1.PodStatus, t *tally) (pending, failed bool) {
	spec := &in.Desired.Pod.Spec
	initialized := in.anyStarted(status)
	for i := range spec.InitContainers {
		c := &spec.InitContainers[i]
		s := find(status.InitContainerStatuses, c.Name)
		switch {
		case pod.IsSidecar(c):
			if s.State.Running != nil {
				t.running++
			}
			never := s.State.Waiting != nil && s.LastTerminationState.Terminated == nil
			if never {
				t.waiting++
			}
			pending = pending || (!initialized && (never || s.State.Running != nil && !*s.Started))
		case s.State.Terminated != nil || s.State.Waiting != nil && s.LastTerminationState.Terminated != nil:
			code := ended(s).ExitCode
			failed = failed || code != 0 && !pod.ShouldRestart(in.Desired.Pod, c, code)
			pending = pending || code != 0 && !initialized
		default:
			pending = true
		}
	}
	return pending, failed
}

// anyStarted reports whether some container of the pod proper has run.
func (in *Input) anyStarted(status *v1.PodStatus) bool {
	for i := range status.ContainerStatuses {
		s := &status.ContainerStatuses[i]
		if s.State.Running != nil || ended(s) != nil {
			return true
		}
	}
	return false
}

// ended is how a container that does not run ended, or nil if it never ran.
func ended(s *v1.ContainerStatus) *v1.ContainerStateTerminated {
	if s.State.Terminated != nil {
		return s.State.Terminated
	}
	return s.LastTerminationState.Terminated
}

func (in *Input) tallyContainer(c *v1.Container, s *v1.ContainerStatus, t *tally) {
	switch {
	case s == nil:
		t.unknown++
	case s.State.Running != nil:
		t.running++
	case ended(s) == nil:
		t.waiting++
	default:
		t.stopped++
		code := ended(s).ExitCode
		if !pod.ShouldRestart(in.Desired.Pod, c, code) {
			t.ended++
		}
		if code == 0 {
			t.succeeded++
		}
	}
}
