// Package podruntime is the contract between the agent and what runs its pods:
// Docker Engine in production, memory in simulation. It is the one interface
// shared by many packages, so it is cut into facets of at most five methods.
//
// # Rules for every implementation
//
// All methods may be called concurrently, also for one container. A call that
// waits (a pull, a stop) ends early when its context ends, with the context's
// error; what it had set in motion may go on.
//
// Stopping and removing are idempotent: what is already stopped or gone is
// success. Other methods on something that does not exist return an error for
// which IsNotFound holds.
//
// An observation made after a call has returned shows what the call did.
//
// The suite in podruntimetest checks these rules and runs on every
// implementation.
package podruntime

import (
	"context"
	"io"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// Runtime is all facets together.
type Runtime interface {
	Sandboxes
	Containers
	Images
	Streams
	Events
}

// Sandboxes makes and ends the pods' sandboxes and lists what there is.
type Sandboxes interface {
	// RunSandbox creates and starts a sandbox and returns its ID. It is
	// idempotent in (pod UID, attempt): if that sandbox exists and is ready
	// its ID is returned; if it exists and is not, it is replaced.
	RunSandbox(ctx context.Context, config SandboxConfig) (id string, err error)
	// StopSandbox kills whatever still runs in the sandbox, without grace, and
	// releases its network. The sandbox and its containers stay listed.
	StopSandbox(ctx context.Context, id string) error
	// RemoveSandbox stops the sandbox and removes it with all its containers.
	RemoveSandbox(ctx context.Context, id string) error
	// ListPods returns every pod that has a sandbox or a container, in no
	// particular order. Fields that cost the runtime a call a container may
	// be missing: only IDs, names, attempts and states are certain.
	ListPods(ctx context.Context) ([]pod.Observed, error)
	// InspectPod returns everything about one pod. A pod of which nothing
	// exists is an Observed for which Empty holds, not an error.
	InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error)
}

// Containers makes, runs and ends the containers of a sandbox.
type Containers interface {
	// CreateContainer creates a container in a ready sandbox; it does not run
	// yet. The image must be present. It is idempotent in (pod UID, container
	// name, attempt) as long as the container has not been started. Its preStop
	// hook and grace period are kept with it, and come back when it is observed.
	CreateContainer(ctx context.Context, sandboxID string, config ContainerConfig) (id string, err error)
	// StartContainer runs a created container. An error leaves the container
	// Exited with reason ContainerCannotRun or still Created.
	StartContainer(ctx context.Context, id string) error
	// StopContainer asks the container to end (SIGTERM, or the image's stop
	// signal) and kills it after grace. It returns when the container has
	// ended. When ctx ends first the container has been asked to end, but will
	// not be killed; a second call with a shorter grace may follow, also while
	// the first still waits.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer removes a container; one that still runs is killed.
	RemoveContainer(ctx context.Context, id string) error
	// UpdateContainer changes the resources of a created or running container
	// in place; those that are not named stay.
	UpdateContainer(ctx context.Context, id string, resources v1.ResourceRequirements) error
}

// Images keeps the images on the node.
type Images interface {
	// PullImage fetches an image and returns its ID. progress may be nil; it
	// is called from one goroutine at a time, never after PullImage returned.
	PullImage(ctx context.Context, request PullRequest, progress func(PullProgress)) (id string, err error)
	// Image returns the image that ref (a reference or an ID) names, or an
	// error for which IsNotFound holds.
	Image(ctx context.Context, ref string) (Image, error)
	// ListImages returns all images on the node, the largest first.
	ListImages(ctx context.Context) ([]Image, error)
	// RemoveImage removes an image by its ID.
	RemoveImage(ctx context.Context, id string) error
}

// Streams reaches into running containers.
type Streams interface {
	// Exec runs a command in a running container and returns its exit code. An
	// error means that it could not be run or was cut off. When ctx ends,
	// the command is abandoned; the runtime does its best to kill it.
	Exec(ctx context.Context, id string, options ExecOptions) (exitCode int, err error)
	// Attach connects to the streams of a running container until it ends, ctx
	// ends, or stdin is closed where the container was made with stdinOnce.
	Attach(ctx context.Context, id string, streams StreamOptions) error
	// Logs writes the container's output, as it was written.
	Logs(ctx context.Context, id string, options LogOptions, stdout, stderr io.Writer) error
	// PortForward connects stream with a port on the loopback of the sandbox's
	// network until either side closes. It closes stream.
	PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error
}

// Events tells how the runtime is, and that something happened in it.
type Events interface {
	// Subscribe has notify called for each pod of which something may have
	// changed, until cancel is called. Notifications are an accelerator: they
	// may be lost, repeated, late or about nothing. notify must not block and
	// must not call the runtime. A notification that is already under way may
	// still arrive after cancel returned.
	Subscribe(notify func(pod.UID)) (cancel func())
	// Status says what the runtime is and whether it can run pods. An error
	// means that it could not be reached.
	Status(ctx context.Context) (Status, error)
}
