package fakeruntime

import (
	"context"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/probe"
)

var _ probe.Target = (*Runtime)(nil)

// Probe implements probe.Target: it reaches the container itself, without a
// network. A container that does not run refuses the connection.
func (r *Runtime) Probe(ctx context.Context, request probe.Request) (ok bool, output string, err error) {
	if err := r.enter(ctx); err != nil {
		return false, "", fmt.Errorf("probing container %s of pod %s: %w",
			request.Container.Name, pod.FullName(request.Pod), err)
	}
	defer r.unlock()
	c := r.containers[request.ContainerID]
	if c == nil || c.State != pod.ContainerRunning {
		return false, fmt.Sprintf("dial tcp %s: connect: connection refused", request.PodIP), nil
	}
	if r.healthy(c, request.Kind) {
		return true, "", nil
	}
	return false, failure(request), nil
}

// Hook implements probe.Target: whatever runs answers.
func (r *Runtime) Hook(ctx context.Context, request probe.HookRequest) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("running a hook of container %s of pod %s: %w", request.Container.Name, pod.FullName(request.Pod), err)
	}
	defer r.unlock()
	if c := r.containers[request.ContainerID]; c == nil || c.State != pod.ContainerRunning {
		return fmt.Errorf("dial tcp %s: connect: connection refused", request.PodIP)
	}
	return nil
}

// failure is what the kubelet's prober says of a failed probe.
func failure(request probe.Request) string {
	switch h := request.Probe.ProbeHandler; {
	case h.HTTPGet != nil:
		return "HTTP probe failed with statuscode: 503"
	case h.GRPC != nil:
		return `service unhealthy (responded with "NOT_SERVING")`
	}
	return fmt.Sprintf("dial tcp %s: connect: connection refused", request.PodIP)
}

// healthy is what a probe of a running container finds now.
func (r *Runtime) healthy(c *container, kind pod.ProbeKind) bool {
	b := r.behavior(c)
	age := r.now.Sub(c.StartedAt)
	if kind == pod.Liveness {
		return b.FailLivenessAfter <= 0 || age < b.FailLivenessAfter
	}
	if age < r.drawFor(c, b.ReadyAfter, "ready") {
		return false
	}
	return kind == pod.Startup || !b.unready(age)
}

// unready says whether a container of some age has become unready again.
func (b *Behavior) unready(age time.Duration) bool {
	if b.UnreadyAfter <= 0 || age < b.UnreadyAfter {
		return false
	}
	return b.UnreadyFor <= 0 || age < b.UnreadyAfter+b.UnreadyFor
}

// execProbe answers a command that is one of the container's exec probes; isOne
// is false for any other. A command that serves several probes fails if any of
// them does.
func (r *Runtime) execProbe(c *container, command []string) (isOne, ok bool) {
	ok = true
	for kind, p := range map[pod.ProbeKind]*v1.Probe{
		pod.Liveness:  c.spec.LivenessProbe,
		pod.Readiness: c.spec.ReadinessProbe,
		pod.Startup:   c.spec.StartupProbe,
	} {
		if p != nil && p.Exec != nil && slices.Equal(p.Exec.Command, command) {
			isOne = true
			ok = ok && r.healthy(c, kind)
		}
	}
	return isOne, ok
}
