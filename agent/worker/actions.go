package worker

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// Reasons of the events that the worker makes, as the kubelet gives them.
const (
	eventPulling           = "Pulling"
	eventPulled            = "Pulled"
	eventCreated           = "Created"
	eventStarted           = "Started"
	eventKilling           = "Killing"
	eventBackOff           = "BackOff"
	eventFailed            = "Failed"
	eventFailedKillPod     = "FailedKillPod"
	eventFailedSandbox     = "FailedCreatePodSandBox"
	eventSandboxChanged    = "SandboxChanged"
	eventErrImageNeverPull = "ErrImageNeverPull"
	eventFailedMount       = "FailedMount"
	eventPullSecret        = "FailedToRetrieveImagePullSecret"
	eventFailedPostStart   = "FailedPostStartHook"
	eventFailedPreStop     = "FailedPreStopHook"
)

// task is one action with what it was planned from.
type task struct {
	desired  *pod.Desired // nil for a pod that no source knows
	observed pod.Observed
	action   plan.Action
	preStop  *preStop // of a container to be stopped; nil for none
	// alive ends with the agent. What the runtime was asked to make is waited for as
	// long, though the pod may be to end: it might go on after it was cancelled, and
	// leave something of a pod that is gone.
	alive context.Context
}

// start begins an action. One that is under way with the same key is overtaken:
// its context ends.
func (w *Worker) start(ctx context.Context, st *state, uid pod.UID, t task) {
	key := t.action.Key()
	if f, busy := st.flights[key]; busy {
		f.cancel()
	}
	w.begin(st, t.action)
	switch t.action.Kind {
	case plan.StopContainer:
		if !st.killed[t.action.ID] {
			w.killing(t)
		}
		delete(st.killed, t.action.ID)
		t.preStop = w.preStopOf(ctx, st, t)
	case plan.RunPreStop:
		t.preStop = w.preStopOf(ctx, st, t)
	}
	st.seq++
	seq := st.seq
	t.alive = ctx
	ctx, cancel := context.WithCancel(ctx)
	st.flights[key] = flight{seq, cancel}
	st.history.InFlight[key] = t.action
	w.actions.Add(1)
	go func() {
		defer w.actions.Done()
		defer cancel()
		failure, err := w.execute(ctx, uid, t)
		done := failure == nil && err == nil && ctx.Err() == nil
		// What touches only the pod's files leaves the runtime as it was.
		refreshed := isOfFiles(t.action.Kind) || w.Observed.Refresh(ctx, uid) == nil
		w.post(uid, result{key: key, seq: seq, action: t.action, failure: failure, done: done, at: time.Now(), refreshed: refreshed})
	}()
}

func isOfFiles(k plan.Kind) bool {
	return k == plan.MountVolumes || k == plan.UnmountVolumes || k == plan.RemoveDirectory
}

// execute does what an action says. What could not be made is a failure, what
// could not be ended an error; both are told before it returns.
func (w *Worker) execute(ctx context.Context, uid pod.UID, t task) (failure *plan.Failure, err error) {
	a := t.action
	switch a.Kind {
	case plan.MountVolumes:
		return w.mountVolumes(ctx, t), nil
	case plan.RunSandbox:
		return w.runSandbox(ctx, t), nil
	case plan.StartContainer:
		return w.startContainer(ctx, t), nil
	case plan.RunPreStop:
		t.preStop.wait(ctx, nil)
	case plan.UpdateContainer:
		return w.updateContainer(ctx, t), nil
	case plan.StopContainer:
		err = w.stopContainer(ctx, t)
	case plan.StopSandbox:
		err = w.Sandboxes.StopSandbox(ctx, a.ID)
	case plan.RemoveSandbox:
		err = w.Sandboxes.RemoveSandbox(ctx, a.ID)
	case plan.RemoveContainer:
		err = w.Containers.RemoveContainer(ctx, a.ID)
	case plan.UnmountVolumes:
		err = w.Volumes.Unmount(ctx, uid)
	case plan.RemoveDirectory:
		err = w.Volumes.Remove(ctx, uid)
	}
	if err == nil || ctx.Err() != nil {
		return nil, err
	}
	w.Log.Warn("Could not end part of a pod", "action", a.Kind, "id", a.ID, "container", a.Container, "err", err)
	if t.desired != nil {
		w.event(t.desired.Pod, "", v1.EventTypeWarning, eventFailedKillPod, "error killing pod: "+err.Error())
	}
	// What cannot be ended is tried again for ever; the action counts as under
	// way until then.
	sleep.For(ctx, w.config.SyncBackoff)
	return nil, err
}

func (w *Worker) mountVolumes(ctx context.Context, t task) *plan.Failure {
	err := w.Volumes.Mount(ctx, t.desired.Pod)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	for _, one := range joined(err) {
		w.event(t.desired.Pod, "", v1.EventTypeWarning, eventFailedMount, one.Error())
	}
	return &plan.Failure{Reason: eventFailedMount, Message: err.Error()}
}

// joined are the errors that one was joined from.
func joined(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return several.Unwrap()
	}
	return []error{err}
}

func (w *Worker) runSandbox(ctx context.Context, t task) *plan.Failure {
	p := t.desired.Pod
	if t.action.Attempt > 0 {
		w.event(p, "", v1.EventTypeNormal, eventSandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
	}
	config, err := w.sandboxConfig(p, t.action.Attempt)
	if err == nil {
		_, err = w.Sandboxes.RunSandbox(t.alive, config)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.event(p, "", v1.EventTypeWarning, eventFailedSandbox, "Failed to create pod sandbox: "+err.Error())
	return &plan.Failure{Reason: eventFailedSandbox, Message: err.Error()}
}

func (w *Worker) startContainer(ctx context.Context, t task) *plan.Failure {
	p, a := t.desired.Pod, t.action
	c, _ := pod.ContainerSpec(p, a.Container)
	image, failure := w.ensureImages(ctx, p, c)
	if failure != nil {
		w.event(p, c.Name, v1.EventTypeWarning, eventFailed, "Error: "+failure.Reason)
		return failure
	}
	if ctx.Err() != nil {
		return nil
	}
	config, err := w.containerConfig(ctx, t, c, image)
	if err != nil {
		return w.startFailed(ctx, p, c, reasonConfig, err)
	}
	id, err := w.Containers.CreateContainer(t.alive, a.ID, config)
	if err != nil {
		return w.startFailed(ctx, p, c, "CreateContainerError", err)
	}
	w.event(p, c.Name, v1.EventTypeNormal, eventCreated, "Container created")
	if ctx.Err() != nil {
		return nil
	}
	if err := w.Containers.StartContainer(t.alive, id); err != nil {
		return w.startFailed(ctx, p, c, "RunContainerError", err)
	}
	w.event(p, c.Name, v1.EventTypeNormal, eventStarted, "Container started")
	return w.postStart(ctx, t, c, id)
}

func (w *Worker) startFailed(ctx context.Context, p *v1.Pod, c *v1.Container, reason string, err error) *plan.Failure {
	if ctx.Err() != nil {
		// The pod is to end, or the agent is: nobody waits for this any more.
		return nil
	}
	w.event(p, c.Name, v1.EventTypeWarning, eventFailed, "Error: "+err.Error())
	return &plan.Failure{Reason: reason, Message: err.Error()}
}

// killing tells that a container is to be stopped, and why.
func (w *Worker) killing(t task) {
	if t.desired != nil {
		w.event(t.desired.Pod, t.action.Container, v1.EventTypeNormal, eventKilling, t.action.Message)
	}
}

// stopContainer waits for the container's preStop hook and stops the container,
// which has what the hook leaves of the grace, and the minimum at least.
func (w *Worker) stopContainer(ctx context.Context, t task) error {
	a := t.action
	grace := a.Grace
	if t.preStop != nil {
		began := time.Now()
		timer := time.NewTimer(a.PreStop)
		defer timer.Stop()
		t.preStop.wait(ctx, timer.C)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		grace = max(a.PreStop-time.Since(began), plan.MinimumGrace)
	}
	err := w.Containers.StopContainer(ctx, a.ID, grace)
	if err == nil && t.preStop != nil {
		t.preStop.cancel()
	}
	return err
}
