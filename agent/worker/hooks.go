package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// Hooks runs containers' lifecycle hooks.
type Hooks interface {
	// RunHook runs one to its end or to that of ctx. podIP is the pod's primary
	// address. The error may hold what the hook has written.
	RunHook(ctx context.Context, p *v1.Pod, c *v1.Container, containerID, podIP string, h *v1.LifecycleHandler) error
}

// minimumGrace is what a container has for its end when its hook has used up its
// time, as with the kubelet.
const minimumGrace = 2 * time.Second

// postStart runs a hook of a container that has started. One that fails ends the
// container; its restart policy decides what then becomes of it.
func (w *Worker) postStart(ctx context.Context, t task, c *v1.Container, id string) *plan.Failure {
	p := t.desired.Pod
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	err := w.Hooks.RunHook(ctx, p, c, id, w.ipOf(t), c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	// The event does not say why: it may be a secret.
	w.event(p, c.Name, v1.EventTypeWarning, eventFailedPostStart, "PostStartHook failed")
	w.Log.Warn("A postStart hook has failed", "pod", pod.FullName(p), "container", c.Name, "err", err)
	grace := time.Duration(pod.TerminationGrace(p)) * time.Second
	stop := t
	stop.action = plan.Action{Kind: plan.StopContainer, ID: id, Container: c.Name, Grace: max(grace, minimumGrace), Message: eventFailedPostStart}
	if c.Lifecycle.PreStop != nil {
		stop.action.PreStop = grace
	}
	if err := w.stopContainer(ctx, stop); err != nil && ctx.Err() == nil {
		w.Log.Warn("Could not end a container whose postStart hook has failed", "pod", pod.FullName(p), "container", c.Name, "err", err)
	}
	return &plan.Failure{Reason: "PostStartHookError", Message: err.Error()}
}

// preStop runs a hook of a container that is to end, and returns what is left of
// its grace period.
func (w *Worker) preStop(ctx context.Context, t task) time.Duration {
	a, p := t.action, t.desired.Pod
	c, _ := pod.ContainerSpec(p, a.Container)
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, a.PreStop)
	defer cancel()
	err := w.Hooks.RunHook(within, p, c, a.ID, w.ipOf(t), c.Lifecycle.PreStop)
	switch {
	case err == nil || ctx.Err() != nil:
	case within.Err() != nil:
		w.Log.Warn("A preStop hook was not completed in the grace period", "pod", pod.FullName(p), "container", c.Name, "grace", a.PreStop)
	default:
		w.event(p, c.Name, v1.EventTypeWarning, eventFailedPreStop, "PreStopHook failed")
		w.Log.Warn("A preStop hook has failed", "pod", pod.FullName(p), "container", c.Name, "err", err)
	}
	return max(a.PreStop-time.Since(began), minimumGrace)
}

// ipOf is a pod's primary address.
func (w *Worker) ipOf(t task) string {
	ips := ipsOf(t.observed)
	if t.desired.Pod.Spec.HostNetwork {
		ips = w.Host.IPs()
	}
	if len(ips) == 0 {
		return ""
	}
	return ips[0]
}
