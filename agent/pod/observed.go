package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// Observed is everything that the runtime had of one pod at one moment. Only
// package observe makes it known to others.
type Observed struct {
	UID       UID
	Namespace string
	Name      string
	// Sandboxes and Containers hold all incarnations that still exist in the
	// runtime, newest first.
	Sandboxes  []Sandbox
	Containers []Container
	// At is when the runtime was asked: everything that had happened to the
	// pod before At is included.
	At time.Time
}

// Empty reports whether the runtime has nothing of the pod left.
func (o *Observed) Empty() bool { return len(o.Sandboxes) == 0 && len(o.Containers) == 0 }

// Sandbox returns the newest sandbox, or nil.
func (o *Observed) Sandbox() *Sandbox {
	if len(o.Sandboxes) == 0 {
		return nil
	}
	return &o.Sandboxes[0]
}

// Container returns the newest incarnation of the named container, or nil.
func (o *Observed) Container(name string) *Container {
	for i := range o.Containers {
		if o.Containers[i].Name == name {
			return &o.Containers[i]
		}
	}
	return nil
}

// Previous returns the second newest incarnation of the named container, or nil.
func (o *Observed) Previous(name string) *Container {
	seen := false
	for i := range o.Containers {
		if o.Containers[i].Name != name {
			continue
		}
		if seen {
			return &o.Containers[i]
		}
		seen = true
	}
	return nil
}

// AnyRunning reports whether some container of the pod is running, or in a
// state in which it may be.
func (o *Observed) AnyRunning() bool {
	for i := range o.Containers {
		if s := o.Containers[i].State; s == ContainerRunning || s == ContainerUnknown {
			return true
		}
	}
	return false
}

// Sandbox is one incarnation of a pod's sandbox: the pause container that holds
// the pod's namespaces.
type Sandbox struct {
	ID string
	// Attempt counts the pod's sandboxes on this node from 0.
	Attempt   uint32
	Ready     bool
	CreatedAt time.Time
	// IPs are the pod's addresses, the primary one first; empty in the host's
	// network and before the network is set up.
	IPs []string
}

// ContainerState is a container's state in the runtime.
type ContainerState int

// The states of a container.
const (
	// ContainerUnknown: the runtime could not say. It is treated as perhaps running.
	ContainerUnknown ContainerState = iota
	// ContainerCreated: created and never started.
	ContainerCreated
	// ContainerRunning: its first process runs.
	ContainerRunning
	// ContainerExited: it has run and ended, or its start failed.
	ContainerExited
)

// String is the state's name, for logs.
func (s ContainerState) String() string {
	return [...]string{"Unknown", "Created", "Running", "Exited"}[s]
}

// Container is one incarnation of a container.
type Container struct {
	ID        string
	Name      string
	SandboxID string
	// Attempt counts the container's incarnations on this node from 0. It is
	// the restart count of the container's status.
	Attempt uint32
	State   ContainerState
	// Hash identifies the part of the container's spec whose change asks for
	// a new incarnation.
	Hash string

	CreatedAt  time.Time
	StartedAt  time.Time
	FinishedAt time.Time

	// ExitCode is valid in state ContainerExited: the process's exit status, or
	// 128 and the signal's number.
	ExitCode int32
	// Signal is the number of the signal that ended the container, 0 if none.
	Signal int32
	// Reason is Completed, Error, OOMKilled or ContainerCannotRun.
	Reason string
	// Message is the termination message, or the error of a failed start.
	Message string

	// Image is the reference that the container was created from; ImageID is
	// what it resolved to, and ImageRef how a status names that.
	Image    string
	ImageID  string
	ImageRef string

	// TerminationGrace is the pod's grace period as it was when the container
	// was created. It serves to stop a container whose pod is no longer known.
	TerminationGrace time.Duration
	// Resources are those that it has now; nil where that is not known.
	Resources *Resources
	// PreStop is the container's hook as it was then; nil for none.
	PreStop *v1.LifecycleHandler
}
