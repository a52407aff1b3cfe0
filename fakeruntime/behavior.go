package fakeruntime

import (
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Script says how an incarnation of a container behaves. It is asked again
// whenever that matters, also while the container runs, so it must be pure: the
// same arguments, the same answer. It must not change the pod or the container,
// keep them, or block. It is called from many goroutines.
type Script func(p *v1.Pod, c *v1.Container, attempt uint32) Behavior

// Latency is a time that something takes: Min, or anything between Min and Max
// with equal probability where Max is more.
type Latency struct{ Min, Max time.Duration }

// Behavior is what becomes of one incarnation of a container. The zero value
// does everything at once, runs until it is stopped, is always ready and uses
// nothing. Durations are from when the container has started, but for the steps
// of the runtime.
type Behavior struct {
	// Sandbox is how long the pod's sandbox takes to be made, and SandboxError
	// the error of it, "" for success. Those of the pod's first container count.
	Sandbox      Latency
	SandboxError string

	// Pull, Create and Start are how long the runtime takes for these steps. A
	// pull of an image that is there already takes a tenth.
	Pull, Create, Start Latency
	// PullError, CreateError and StartError are the errors in which the steps
	// end; "" for success. A PullError that begins with InvalidImageName or
	// RegistryUnavailable is one of that kind, any other is an ErrImagePull.
	PullError, CreateError, StartError string

	// Exits has the container end by itself after ExitAfter, with ExitCode and
	// TerminationMessage.
	Exits              bool
	ExitAfter          Latency
	ExitCode           int32
	TerminationMessage string
	// OOMAfter is when the kernel kills the container for its memory: exit code
	// 137, reason OOMKilled. 0 is never.
	OOMAfter time.Duration

	// Stop is how long the container takes to end after SIGTERM, and
	// StopExitCode what it ends with. IgnoreSIGTERM has it wait for the kill.
	Stop          Latency
	StopExitCode  int32
	IgnoreSIGTERM bool

	// ReadyAfter is when readiness and startup probes begin to succeed.
	ReadyAfter Latency
	// UnreadyAfter is when readiness probes begin to fail (again), for
	// UnreadyFor; 0 is never and for ever.
	UnreadyAfter, UnreadyFor time.Duration
	// FailLivenessAfter is when liveness probes begin to fail; 0 is never.
	FailLivenessAfter time.Duration

	// CPU and Memory are what the container uses while it runs.
	CPU, Memory resource.Quantity
	// Writes are what the container writes to its volumes.
	Writes []Write
	// Logs are the lines that it writes to stdout when it starts.
	Logs []string
}

// Write is a file of Size that a container has written to the pod's Volume after
// some time. The next incarnation writes over it, and what is not mounted is not
// written to.
type Write struct {
	Volume string
	Size   resource.Quantity
	After  time.Duration
}

// DefaultBehavior is an ordinary server with an image of ordinary size: it is
// ready at once, runs for ever and ends well when it is asked to.
func DefaultBehavior() Behavior {
	return Behavior{
		Sandbox: Latency{100 * time.Millisecond, 300 * time.Millisecond},
		Pull:    Latency{200 * time.Millisecond, time.Second},
		Create:  Latency{10 * time.Millisecond, 30 * time.Millisecond},
		Start:   Latency{60 * time.Millisecond, 140 * time.Millisecond},
		Stop:    Latency{30 * time.Millisecond, 70 * time.Millisecond},
		CPU:     *resource.NewMilliQuantity(5, resource.DecimalSI),
		Memory:  *resource.NewQuantity(20<<20, resource.BinarySI),
	}
}

// DefaultScript has containers do what their pod expects of them: init
// containers, and those of pods that do not always restart, such as a Job's, end
// well after a while; all others run for ever.
func DefaultScript(p *v1.Pod, c *v1.Container, _ uint32) Behavior {
	b := DefaultBehavior()
	switch {
	case slices.ContainsFunc(p.Spec.InitContainers, func(i v1.Container) bool { return i.Name == c.Name }):
		b.Exits = c.RestartPolicy == nil || *c.RestartPolicy != v1.ContainerRestartPolicyAlways
		b.ExitAfter = Latency{300 * time.Millisecond, time.Second}
	case p.Spec.RestartPolicy == v1.RestartPolicyNever, p.Spec.RestartPolicy == v1.RestartPolicyOnFailure:
		b.Exits = true
		b.ExitAfter = Latency{time.Second, 3 * time.Second}
	}
	return b
}
