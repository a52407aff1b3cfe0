package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// Hooks runs containers' lifecycle hooks.
type Hooks interface {
	// RunHook runs one to its end or to that of ctx. podIP is the pod's primary
	// address. The error may hold what the hook has written.
	RunHook(ctx context.Context, p *v1.Pod, c *v1.Container, containerID, podIP string, h *v1.LifecycleHandler) error
}

// reasonPostStart is the waiting reason of a container whose postStart hook
// failed.
const reasonPostStart = "PostStartHookError"

// postStart runs the hook of a container that has just started. If it fails the
// container is stopped; its restart policy says what then.
func (w *Worker) postStart(ctx context.Context, t task, c *v1.Container, id string) *plan.Failure {
	if c.Lifecycle == nil || c.Lifecycle.PostStart == nil {
		return nil
	}
	p := t.desired.Pod
	err := w.Hooks.RunHook(ctx, p, c, id, w.podIP(t), c.Lifecycle.PostStart)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.event(p, c.Name, v1.EventTypeWarning, eventFailedPostStart, "PostStartHook failed")
	grace := time.Duration(pod.TerminationGrace(p)) * time.Second
	stop := t
	stop.action = plan.Action{Kind: plan.StopContainer, ID: id, Container: c.Name, Message: eventFailedPostStart,
		Grace: max(grace, plan.MinimumGrace), PreStop: grace}
	w.killing(stop)
	if c.Lifecycle.PreStop != nil {
		stop.preStop = w.newPreStop(ctx, t, c, id, c.Lifecycle.PreStop)
	}
	if err := w.stopContainer(ctx, stop); err != nil && ctx.Err() == nil {
		w.Log.Warn("Could not stop a container whose postStart hook failed", "pod", pod.FullName(p), "container", c.Name, "err", err)
	}
	return &plan.Failure{Reason: reasonPostStart, Message: err.Error()}
}

// preStop is a container's preStop hook, under way or done. It is run once,
// however often the container's stop is begun.
type preStop struct {
	done   chan struct{}
	cancel context.CancelFunc
}

// wait returns when the hook has ended, or when there is no more time for it.
// There may be none.
func (h *preStop) wait(ctx context.Context, over <-chan time.Time) {
	if h == nil {
		return
	}
	select {
	case <-h.done:
	case <-over:
	case <-ctx.Done():
	}
}

// preStopOf begins the preStop hook of a container that is to be stopped, if it
// has one that was not begun yet.
func (w *Worker) preStopOf(ctx context.Context, st *state, t task) *preStop {
	a := t.action
	h, begun := st.preStops[a.ID]
	if begun {
		return h
	}
	cur := findContainer(&t.observed, a.ID)
	if cur == nil || cur.State != pod.ContainerRunning || cur.PreStop == nil {
		return nil
	}
	c := &v1.Container{Name: cur.Name}
	if t.desired != nil {
		if s, _ := pod.ContainerSpec(t.desired.Pod, cur.Name); s != nil {
			c = s
		}
	}
	for id := range st.preStops {
		if findContainer(&t.observed, id) == nil {
			delete(st.preStops, id)
		}
	}
	h = w.newPreStop(ctx, t, c, cur.ID, cur.PreStop)
	st.preStops[a.ID] = h
	return h
}

func (w *Worker) newPreStop(ctx context.Context, t task, c *v1.Container, id string, handler *v1.LifecycleHandler) *preStop {
	p := &v1.Pod{}
	p.UID, p.Namespace, p.Name = types.UID(t.observed.UID), t.observed.Namespace, t.observed.Name
	if t.desired != nil {
		p = t.desired.Pod
	}
	ctx, cancel := context.WithCancel(ctx)
	h := &preStop{done: make(chan struct{}), cancel: cancel}
	ip := w.podIP(t)
	w.actions.Go(func() {
		defer close(h.done)
		defer cancel()
		if err := w.Hooks.RunHook(ctx, p, c, id, ip, handler); err != nil {
			w.Log.Warn("A preStop hook failed", "pod", pod.FullName(p), "container", c.Name, "err", err)
			w.event(p, c.Name, v1.EventTypeWarning, eventFailedPreStop, "PreStopHook failed")
		}
	})
	return h
}

func findContainer(o *pod.Observed, id string) *pod.Container {
	for i := range o.Containers {
		if o.Containers[i].ID == id {
			return &o.Containers[i]
		}
	}
	return nil
}

// podIP is where HTTP hooks without a host go.
func (w *Worker) podIP(t task) string {
	ips := ipsOf(t.observed)
	if t.desired != nil && t.desired.Pod.Spec.HostNetwork {
		ips = w.Host.IPs()
	}
	if len(ips) > 0 {
		return ips[0]
	}
	return ""
}
