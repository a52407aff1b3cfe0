package plan

import (
	"time"

	"nodelet/agent/pod"
)

// History is what is remembered of a pod between decisions. The pod's worker
// writes it; Next only reads it. It is lost with the agent: what must outlive
// the agent is read back from the runtime and from the pod's status.
type History struct {
	// Phase is the furthest phase that was reached.
	Phase pod.Phase
	// TerminatingSince is when the pod began to end.
	TerminatingSince time.Time
	// End is why the node ended the pod, once it has.
	End *End
	// InFlight are the actions under way, by key.
	InFlight map[string]Action
	// Mounted says that the pod's volumes were mounted by this agent, Unmounted
	// that they were let go, Removed that nothing of the pod is left on disk.
	// Each is done once in an agent's life and is harmless to repeat.
	Mounted, Unmounted, Removed bool
	// Mount is the last failure to mount the volumes, zero if there was none;
	// MountBackoff is until when it is not tried again.
	Mount        Failure
	MountBackoff Backoff
	// Sandbox is the last failure to make a sandbox, zero if there was none.
	Sandbox Failure
	// Containers is kept by container name.
	Containers map[string]Container
}

// See notes what was seen in the runtime.
func (h *History) See(o *pod.Observed) {
	for i := range o.Containers {
		c := &o.Containers[i]
		if known := h.Containers[c.Name]; c.State != pod.ContainerCreated && c.Attempt >= known.Incarnations {
			known.Incarnations = c.Attempt + 1
			h.Containers[c.Name] = known
		}
	}
}

// Container is what is remembered of one container.
type Container struct {
	// Restart is the container's crash-loop back-off.
	Restart Backoff
	// Pull is the back-off of its image.
	Pull Backoff
	// Failure is why the last attempt to start it failed before it ran; zero
	// if it did not.
	Failure Failure
	// Replace is the ID of an incarnation that was stopped for a changed
	// definition, so that another is to follow whatever the restart policy.
	Replace string
	// Resize is why the last attempt to give it other resources failed; zero if it
	// did not.
	Resize Failure
	// Updated is the incarnation that was last given other resources, UpdatedTo
	// what they are. A runtime that then shows others cannot do better.
	Updated   string
	UpdatedTo pod.Resources
	// Incarnations is how many there were, as far as was seen: more than the newest
	// attempt that was begun. The runtime may lose what has ended.
	Incarnations uint32
	// PreStopped is the ID of an incarnation whose preStop hook was run.
	PreStopped string
}

// Failure is a failed attempt to make something.
type Failure struct {
	// Reason and Message are those of the container's waiting state.
	Reason, Message string
	// Pull says that it was the pull of the image that failed; BackoffMessage
	// is then the message for the time of the back-off.
	Pull           bool
	BackoffMessage string
	// At is when it failed, RetryAt when to try again.
	At, RetryAt time.Time
	// For is the image of the container that could not be started: with another one
	// it is tried at once.
	For string
}

// IsZero reports whether there was no failure.
func (f Failure) IsZero() bool { return f.Reason == "" }

// BackoffLimits are the bounds of a doubling delay.
type BackoffLimits struct {
	// RestartInitial and RestartMax bound the crash-loop back-off: 10 s, 300 s.
	RestartInitial, RestartMax time.Duration
	// PullInitial and PullMax bound the image pull back-off: 10 s, 300 s.
	PullInitial, PullMax time.Duration
	// MountInitial and MountMax bound the back-off of volumes: 0.5 s, 122 s.
	MountInitial, MountMax time.Duration
}

// DefaultBackoff are the kubelet's limits.
func DefaultBackoff() BackoffLimits {
	return BackoffLimits{
		RestartInitial: 10 * time.Second, RestartMax: 300 * time.Second,
		PullInitial: 10 * time.Second, PullMax: 300 * time.Second,
		MountInitial: 500 * time.Millisecond, MountMax: 122 * time.Second,
	}
}

// Backoff is a delay that doubles at every failure and is forgotten after twice
// its maximum without one. The zero value has seen no failure.
type Backoff struct {
	Delay time.Duration
	// Last is the time of the newest failure counted, Of what failed then.
	Last time.Time
	Of   string
	// For is what the delay is for; it is not for what is changed since.
	For string
}

// WhenFor returns the back-off as it is for something: none if it is for something
// else.
func (b Backoff) WhenFor(what string) Backoff {
	if b.For != what {
		return Backoff{For: what}
	}
	return b
}

// Next returns the back-off after one more failure, of something at a time. One
// that is counted already, because its restart is under way or has failed, is
// not counted twice; an empty name is always counted.
func (b Backoff) Next(of string, at time.Time, initial, maximum time.Duration) Backoff {
	if b.counts(of) {
		return b
	}
	if b.Delay == 0 || at.Sub(b.Last) > 2*maximum {
		return Backoff{Delay: min(initial, maximum), Last: at, Of: of, For: b.For}
	}
	return Backoff{Delay: min(2*b.Delay, maximum), Last: at, Of: of, For: b.For}
}

// Until returns when something that failed at the given time may be tried
// again; zero for at once.
func (b Backoff) Until(of string, at time.Time, maximum time.Duration) time.Time {
	if b.Delay == 0 || b.counts(of) || at.Sub(b.Last) > 2*maximum {
		return time.Time{}
	}
	return at.Add(b.Delay)
}

// counts reports whether the failure is counted: its delay was waited for.
func (b Backoff) counts(of string) bool { return of != "" && b.Of == of }
