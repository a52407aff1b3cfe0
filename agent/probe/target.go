package probe

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// Request is one network probe to be made.
type Request struct {
	Pod         *v1.Pod
	Container   *v1.Container
	ContainerID string
	// PodIP is the pod's primary address.
	PodIP string
	Kind  pod.ProbeKind
	Probe *v1.Probe
}

// Target is what network probes (HTTP, TCP, gRPC) and hooks reach: the node's network,
// or a scripted container. It may be called concurrently. The context's
// deadline is the probe's timeout; a context that ends is a failed probe. An
// error means that the probe could not be made, which counts neither for nor
// against the container; the one exception is a Warning.
type Target interface {
	Probe(ctx context.Context, r Request) (ok bool, output string, err error)
	// Hook runs a lifecycle hook over HTTP.
	Hook(ctx context.Context, r HookRequest) error
}

// Warning is the error of a probe that is ok, but of which the pod's owner
// should hear.
type Warning string

// Error is what there is to say.
func (w Warning) Error() string { return string(w) }

// Execer runs a command in a container, for exec probes. It may be called
// concurrently. output is bounded by the Execer; an error means that the
// command could not be run.
type Execer interface {
	ProbeExec(ctx context.Context, containerID string, command []string) (exitCode int, output string, err error)
}
