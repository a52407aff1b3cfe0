package chaos

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// link is one agent's way to the machine's runtime. Its calls fail as Faults
// says, and once it is cut they have no effect any more.
type link struct {
	podruntime.Runtime
	world *World
	cut   atomic.Bool
}

// call makes one call of the runtime about a pod.
func call[T any](ctx context.Context, l *link, of, what string, do func() (T, error)) (T, error) {
	var none T
	if l.cut.Load() {
		return none, l.dead(ctx)
	}
	fault := l.world.Faults.call(of + " " + what)
	wait(ctx, fault.delay)
	if fault.before {
		l.world.Trace.Add(of, "%s fails%s", what, dies(fault))
		if fault.dies {
			l.world.die(l)
			return none, l.dead(ctx)
		}
		return none, errFault
	}
	result, err := do()
	if l.cut.Load() && err != nil {
		l.world.guard.orphan(of)
	}
	l.world.Trace.Add(of, "%s: %v %v", what, result, err)
	if fault.after {
		l.world.Trace.Add(of, "%s is not answered%s", what, dies(fault))
		if fault.dies {
			l.world.die(l)
			return none, l.dead(ctx)
		}
		return none, errFault
	}
	return result, err
}

func dies(f callFault) string {
	if f.dies {
		return ", and the agent dies"
	}
	return ""
}

// dead is the end of a call of an agent that is dead: it goes nowhere.
func (l *link) dead(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// done is a call without a result.
func (l *link) done(ctx context.Context, of, what string, do func() error) error {
	_, err := call(ctx, l, of, what, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

// RunSandbox implements podruntime.Sandboxes.
func (l *link) RunSandbox(ctx context.Context, c podruntime.SandboxConfig) (string, error) {
	return call(ctx, l, c.Pod.Name, "RunSandbox", func() (string, error) { return l.Runtime.RunSandbox(ctx, c) })
}

// StopSandbox implements podruntime.Sandboxes.
func (l *link) StopSandbox(ctx context.Context, id string) error {
	return l.done(ctx, l.world.guard.podOf(id), "StopSandbox", func() error { return l.Runtime.StopSandbox(ctx, id) })
}

// RemoveSandbox implements podruntime.Sandboxes.
func (l *link) RemoveSandbox(ctx context.Context, id string) error {
	return l.done(ctx, l.world.guard.podOf(id), "RemoveSandbox", func() error { return l.Runtime.RemoveSandbox(ctx, id) })
}

// ListPods implements podruntime.Sandboxes.
func (l *link) ListPods(ctx context.Context) ([]pod.Observed, error) {
	if l.cut.Load() {
		return nil, l.dead(ctx)
	}
	if l.world.Faults.happens("ListPods", 4) {
		return nil, errFault
	}
	return l.Runtime.ListPods(ctx)
}

// InspectPod implements podruntime.Sandboxes.
func (l *link) InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error) {
	if l.cut.Load() {
		return pod.Observed{}, l.dead(ctx)
	}
	r := l.world.Faults.draw("InspectPod " + string(uid))
	if r != nil && r.IntN(8) == 0 {
		return pod.Observed{}, errFault
	}
	observed, err := l.Runtime.InspectPod(ctx, uid)
	if err == nil {
		l.world.guard.see(&observed)
	}
	if r != nil && r.IntN(4) == 0 {
		// What was seen is known late.
		wait(ctx, time.Duration(r.Int64N(int64(time.Second))))
	}
	return observed, err
}

// CreateContainer implements podruntime.Containers.
func (l *link) CreateContainer(ctx context.Context, sandbox string, c podruntime.ContainerConfig) (string, error) {
	return call(ctx, l, c.Pod.Name, "CreateContainer "+c.Container.Name, func() (string, error) {
		l.world.guard.create(c.Pod, c.Container, c.Attempt, sandbox)
		return l.Runtime.CreateContainer(ctx, sandbox, c)
	})
}

// StartContainer implements podruntime.Containers.
func (l *link) StartContainer(ctx context.Context, id string) error {
	return l.done(ctx, l.world.guard.podOf(id), "StartContainer "+l.world.guard.nameOf(id), func() error {
		return l.Runtime.StartContainer(ctx, id)
	})
}

// StopContainer implements podruntime.Containers.
func (l *link) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	return l.done(ctx, l.world.guard.podOf(id), "StopContainer "+l.world.guard.nameOf(id), func() error {
		return l.Runtime.StopContainer(ctx, id, grace)
	})
}

// RemoveContainer implements podruntime.Containers.
func (l *link) RemoveContainer(ctx context.Context, id string) error {
	return l.done(ctx, l.world.guard.podOf(id), "RemoveContainer "+l.world.guard.nameOf(id), func() error {
		return l.Runtime.RemoveContainer(ctx, id)
	})
}

// UpdateContainer implements podruntime.Containers.
func (l *link) UpdateContainer(ctx context.Context, id string, r v1.ResourceRequirements) error {
	return l.done(ctx, l.world.guard.podOf(id), "UpdateContainer "+l.world.guard.nameOf(id), func() error {
		return l.Runtime.UpdateContainer(ctx, id, r)
	})
}

// PullImage implements podruntime.Images.
func (l *link) PullImage(ctx context.Context, r podruntime.PullRequest, progress func(podruntime.PullProgress)) (string, error) {
	return call(ctx, l, r.Pod.Name, "PullImage", func() (string, error) { return l.Runtime.PullImage(ctx, r, progress) })
}

// Subscribe implements podruntime.Events: what is notified may be lost, late,
// repeated, and about another pod.
func (l *link) Subscribe(notify func(pod.UID)) (cancel func()) {
	tell := func(uid pod.UID) {
		if !l.cut.Load() {
			notify(uid)
		}
	}
	return l.Runtime.Subscribe(func(uid pod.UID) {
		r := l.world.Faults.draw("notify " + string(uid))
		if r == nil {
			tell(uid)
			return
		}
		for range notifications(r) {
			time.AfterFunc(time.Duration(r.Int64N(int64(5*time.Second))), func() { tell(uid) })
		}
		if r.IntN(3) > 0 {
			tell(uid)
		}
	})
}

// notifications is how many come late.
func notifications(r *rand.Rand) int { return []int{0, 0, 1, 2}[r.IntN(4)] }
