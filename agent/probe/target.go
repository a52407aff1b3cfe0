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

// Target is what network probes (HTTP, TCP, gRPC) reach: the node's network,
// or a scripted container. It may be called concurrently. An error means that
// the probe could not be made, which counts neither for nor against the
// container; a context that ends is a failed probe.
type Target interface {
	Probe(ctx context.Context, r Request) (ok bool, output string, err error)
}

// Execer runs a command in a container, for exec probes.
type Execer interface {
	ProbeExec(ctx context.Context, containerID string, command []string) (exitCode int, output string, err error)
}
