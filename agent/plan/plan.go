// Package plan decides what to do next about one pod.
//
// It is the core of the agent and pure: what is desired, what was observed,
// what the probes said, what was tried before and the time go in; actions and
// the time at which to look again come out. It does no I/O, starts no
// goroutine and reads no clock, so everything it decides can be tested as a
// table.
//
// Start at Next. A pod that is to run is planned in sync.go, its init
// containers in init.go, one that is to end in terminate.go. What outlives a
// step (back-offs, failures, actions under way) is in history.go.
package plan

import (
	"time"

	"nodelet/agent/pod"
)

// Input is everything that a decision depends on. Next changes none of it.
type Input struct {
	// Desired is what the sources want; nil when no source knows the pod.
	Desired *pod.Desired
	// SourcesReady says that every source has been heard once, so that a pod
	// which none of them knows is really not wanted.
	SourcesReady bool
	Observed     pod.Observed
	Probes       pod.Probes
	History      *History
	// Told says that the API server has been told how everything of the pod has ended.
	// What is left of a pod that is being deleted is kept until then, so that an agent
	// that dies in between leaves its successor something to tell.
	Told    bool
	Backoff BackoffLimits
	Now     time.Time
}

// Result is a decision.
type Result struct {
	// Phase is where the pod stands.
	Phase pod.Phase
	// Actions are to be started now. They are independent of each other, and
	// none of them is under way.
	Actions []Action
	// Wake is when to plan again even if nothing happens; zero for never.
	Wake time.Time
	// Waiting says why containers that are to run do not.
	Waiting map[string]Waiting
	// Resizing says that containers do not have the resources of their specs yet,
	// and why the last attempt to give them failed; nil if they do.
	Resizing *Waiting
	// End is why the pod ends, when that is not for its containers' exits.
	End *End
	// Gone says that the runtime has nothing left of a pod that is to vanish,
	// so that its deletion may be completed.
	Gone bool
}

// Waiting is why a container waits, in the words of its status. Without a reason
// it waits for what comes before its running: also one whose process runs waits
// for its postStart hook.
type Waiting struct{ Reason, Message string }

// End is a node's own reason to end a pod: its phase becomes Failed.
type End struct{ Reason, Message string }

// Reasons for which containers wait.
const (
	ReasonCrashLoopBackOff = "CrashLoopBackOff"
	ReasonErrImagePull     = "ErrImagePull"
	ReasonImagePullBackOff = "ImagePullBackOff"
	ReasonDeadlineExceeded = "DeadlineExceeded"
	ReasonPreempting       = "Preempting"
	ReasonEvicted          = "Evicted"
)

// Kind is what an action does.
type Kind int

// The kinds of action.
const (
	RunSandbox Kind = iota + 1
	StopSandbox
	RemoveSandbox
	// StartContainer makes sure of the image, creates the container, starts it
	// and runs its postStart hook.
	StartContainer
	// RunPreStop runs the preStop hook of a container that is to be stopped later.
	RunPreStop
	// StopContainer runs the container's preStop hook, unless that was run, and
	// stops the container, both within one grace period.
	StopContainer
	RemoveContainer
	// UpdateContainer gives a running container the resources of its spec.
	UpdateContainer
	// MountVolumes makes the pod's directory and what its volumes hold;
	// UnmountVolumes lets the volumes go, RemoveDirectory what is left.
	MountVolumes
	UnmountVolumes
	RemoveDirectory
)

// String is the kind's name, for logs and tests.
func (k Kind) String() string {
	return [...]string{"None", "RunSandbox", "StopSandbox", "RemoveSandbox",
		"StartContainer", "RunPreStop", "StopContainer", "RemoveContainer", "UpdateContainer",
		"MountVolumes", "UnmountVolumes", "RemoveDirectory"}[k]
}

// Action is something to be done through the runtime, or to the pod's files.
type Action struct {
	Kind Kind
	// ID is the sandbox or container to act on; for StartContainer the sandbox
	// to start it in; empty for RunSandbox.
	ID string
	// Container is the container's name; empty for sandboxes.
	Container string
	// Attempt is the number of the incarnation to make, Image that of a container.
	Attempt uint32
	Image   string
	// Grace is how long a StopContainer may take; PreStop how much of it the
	// container's preStop hook may have, 0 for none.
	Grace   time.Duration
	PreStop time.Duration
	// Message is why a container is stopped, for the event.
	Message string
	// Restart is what the container's crash-loop back-off becomes by this
	// start.
	Restart Backoff
	// Resources are those of an UpdateContainer.
	Resources pod.Resources
	// Replace says that the container stopped is to be started again whatever
	// its restart policy: its definition has changed.
	Replace bool
}

// Key identifies an action while it is under way. At most one action with a
// key is under way at a time; a pod makes at most one thing at a time.
func (a Action) Key() string {
	switch a.Kind {
	case RunSandbox, StartContainer, MountVolumes:
		return makeKey
	case RunPreStop:
		return "prestop/" + a.ID
	case StopContainer:
		return "stop/" + a.ID
	case UpdateContainer:
		return "update/" + a.ID
	case StopSandbox:
		return "stop-sandbox/" + a.ID
	case UnmountVolumes, RemoveDirectory:
		return "clean-up"
	}
	return "remove/" + a.ID
}

// makeKey is the key of every action that makes something.
const makeKey = "make"

// Makes reports whether the action starts something, so that it is to be
// cancelled when the pod is to end.
func (a Action) Makes() bool { return a.Key() == makeKey }

// Next decides what to do about the pod now.
func Next(in Input) Result {
	p := &planner{Input: in}
	p.result.Phase = p.phase()
	switch {
	case in.Desired == nil && p.result.Phase == pod.Syncing:
		// Perhaps a source that was not heard yet wants it.
	case p.result.Phase == pod.Syncing:
		p.sync()
		if p.finished {
			p.result.Phase = pod.Terminating
			p.terminate()
		}
	default:
		p.terminate()
	}
	return p.result
}

// planner holds one decision while it is made.
type planner struct {
	Input
	result Result
	// finished is set by sync when nothing of the pod is to run any more.
	finished bool
}

// phase says whether the pod is to run or to end, before its containers are
// looked at. Terminated is concluded by terminate.
func (p *planner) phase() pod.Phase {
	if p.Desired == nil {
		if p.SourcesReady || p.History.Phase != pod.Syncing {
			return pod.Terminating
		}
		return pod.Syncing
	}
	d := p.Desired
	if d.Evicted != "" && p.History.End == nil {
		p.result.End = &End{ReasonEvicted, d.Evicted}
		return pod.Terminating
	}
	if p.History.Phase != pod.Syncing || !d.Removed.IsZero() || d.Rejection != nil ||
		d.Pod.DeletionTimestamp != nil || pod.IsTerminal(d.Pod.Status.Phase) {
		return pod.Terminating
	}
	if d.Preempted {
		p.result.End = &End{ReasonPreempting, "Preempted in order to admit critical pod"}
		return pod.Terminating
	}
	if p.pastDeadline() {
		p.result.End = &End{ReasonDeadlineExceeded,
			"Pod was active on the node longer than the specified deadline"}
		return pod.Terminating
	}
	return pod.Syncing
}

// pastDeadline reports whether activeDeadlineSeconds have passed, and sees to
// it that the pod is looked at when they will have.
func (p *planner) pastDeadline() bool {
	s := p.Desired.Pod.Spec.ActiveDeadlineSeconds
	if s == nil {
		return false
	}
	start := p.Desired.FirstSeen
	if t := p.Desired.Pod.Status.StartTime; t != nil {
		start = t.Time
	}
	deadline := start.Add(time.Duration(*s) * time.Second)
	if !p.Now.Before(deadline) {
		return true
	}
	p.wakeAt(deadline)
	return false
}

// do adds an action unless one with its key is under way.
func (p *planner) do(a Action) {
	if _, busy := p.History.InFlight[a.Key()]; !busy {
		p.result.Actions = append(p.result.Actions, a)
	}
}

// making reports whether something of the pod is being made.
func (p *planner) making() bool {
	_, busy := p.History.InFlight[makeKey]
	return busy
}

// starting reports whether a container's start is under way, which its postStart
// hook is part of.
func (p *planner) starting(name string) bool {
	a, busy := p.History.InFlight[makeKey]
	return busy && a.Kind == StartContainer && a.Container == name
}

func (p *planner) wakeAt(t time.Time) {
	if p.result.Wake.IsZero() || t.Before(p.result.Wake) {
		p.result.Wake = t
	}
}

func (p *planner) wait(container, reason, message string) {
	if p.result.Waiting == nil {
		p.result.Waiting = map[string]Waiting{}
	}
	p.result.Waiting[container] = Waiting{reason, message}
}
