package chaos

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Story is what the API server was told of a pod, without what may differ: times,
// identities, wording, and states that last too short to be certain of.
type Story struct {
	// Phases are the phases, each with its reason, in order.
	Phases []string
	// Ended are the ends of each container's incarnations, in order.
	Ended map[string][]string
	// Ready is how the Ready condition went, for pods of one container.
	Ready []string
	// Last is the newest status, Rest the one before the pod was deleted at rest.
	Last, Rest string
	Gone       bool
	// Forced says that the pod was deleted by force.
	Forced bool
}

// Tell makes the story of a pod from the statuses that it has had.
func Tell(p *v1.Pod, statuses []v1.PodStatus, gone bool) *Story {
	s := &Story{Ended: map[string][]string{}, Gone: gone}
	s.phase(string(v1.PodPending))
	seen := map[string]bool{}
	for i := range statuses {
		status := &statuses[i]
		s.phase(strings.TrimSpace(string(status.Phase) + " " + status.Reason))
		for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses) {
			for _, t := range []*v1.ContainerStateTerminated{c.LastTerminationState.Terminated, c.State.Terminated} {
				if t != nil && !seen[c.Name+t.ContainerID] {
					seen[c.Name+t.ContainerID] = true
					s.Ended[c.Name] = append(s.Ended[c.Name], fmt.Sprintf("%s %d", t.Reason, t.ExitCode))
				}
			}
		}
		if len(p.Spec.Containers) == 1 {
			if r := condition(status, v1.PodReady); len(s.Ready) == 0 || s.Ready[len(s.Ready)-1] != r {
				s.Ready = append(s.Ready, r)
			}
		}
	}
	if len(statuses) > 0 {
		s.Last = Describe(&statuses[len(statuses)-1])
	}
	return s
}

func (s *Story) phase(phase string) {
	if len(s.Phases) == 0 || s.Phases[len(s.Phases)-1] != phase {
		s.Phases = append(s.Phases, phase)
	}
}

func condition(status *v1.PodStatus, t v1.PodConditionType) string {
	for _, c := range status.Conditions {
		if c.Type == t {
			return string(c.Status)
		}
	}
	return "none"
}

// Describe is a status in one line, without what may differ.
func Describe(status *v1.PodStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", status.Phase, status.Reason, status.QOSClass)
	for _, c := range status.Conditions {
		fmt.Fprintf(&b, " %s=%s(%s)", c.Type, c.Status, c.Reason)
		if c.ObservedGeneration != status.ObservedGeneration {
			fmt.Fprintf(&b, "[generation %d]", c.ObservedGeneration)
		}
	}
	for _, c := range slices.Concat(status.InitContainerStatuses, status.ContainerStatuses, status.EphemeralContainerStatuses) {
		fmt.Fprintf(&b, "; %s %s restarts=%d ready=%v", c.Name, stateOf(&c), c.RestartCount, c.Ready)
		if c.Image == OtherImage {
			b.WriteString(" other image")
		}
		if r := c.Resources; r != nil && !r.Limits.Cpu().IsZero() {
			fmt.Fprintf(&b, " cpu=%v/%v", r.Requests.Cpu(), r.Limits.Cpu())
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			fmt.Fprintf(&b, " last=%s %d", t.Reason, t.ExitCode)
		}
	}
	return b.String()
}

func stateOf(c *v1.ContainerStatus) string {
	switch s := &c.State; {
	case s.Running != nil:
		return fmt.Sprintf("running started=%v", c.Started != nil && *c.Started)
	case s.Terminated != nil:
		return fmt.Sprintf("ended %s %d", s.Terminated.Reason, s.Terminated.ExitCode)
	case s.Waiting != nil:
		return "waits " + s.Waiting.Reason
	}
	return "nothing"
}

// Final is how a life ended, without what depends on how long things took: when a
// deadline met it.
func (s *Story) Final(p *v1.Pod) string {
	switch {
	case s.Gone:
		return "gone"
	case p.Spec.ActiveDeadlineSeconds != nil:
		return s.Phases[len(s.Phases)-1]
	}
	return s.Last
}

// Difference says how two stories of a pod differ, "" if they do not. The second one
// was told in real time, in which a write may take longer than what it tells of, and
// by agents that may have been killed.
func Difference(p *v1.Pod, a, b *Story, kills bool) string {
	var all []string
	differ := func(what string, x, y any) {
		if Unnoticed(fmt.Sprint(x)) != Unnoticed(fmt.Sprint(y)) {
			all = append(all, fmt.Sprintf("%s\n      %v\n      %v", what, x, y))
		}
	}
	differ("gone", a.Gone, b.Gone)
	differ("at rest", a.Rest, b.Rest)
	if a.Forced || b.Forced {
		// Nobody is told how it ended: it was gone before.
		return strings.Join(all, "\n    ")
	}
	if !leavesOut(a.Phases, b.Phases) {
		differ("phases", a.Phases, b.Phases)
	}
	if p.Spec.ActiveDeadlineSeconds != nil {
		// How far it came before the deadline is a matter of time.
		return strings.Join(all, "\n    ")
	}
	differ("ends", a.Ended, b.Ended)
	if !kills && !leavesOut(a.Ready, b.Ready) {
		differ("ready", a.Ready, b.Ready)
	}
	differ("last", a.Last, b.Last)
	return strings.Join(all, "\n    ")
}

// Unnoticed is a description of ends as it is where the engine has not noticed that
// a container was killed for its memory. Docker misses that now and then.
func Unnoticed(s string) string { return strings.ReplaceAll(s, "OOMKilled 137", "Error 137") }

// leavesOut reports whether short is long without some that lasted for a moment
// only; both have the same end.
func leavesOut(long, short []string) bool {
	i := 0
	for _, s := range long {
		if i < len(short) && short[i] == s {
			i++
		}
	}
	return i == len(short) && (len(long) == 0 || len(short) > 0 && long[len(long)-1] == short[len(short)-1])
}
