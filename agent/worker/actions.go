package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
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
)

// task is one action with what it was planned from.
type task struct {
	desired  *pod.Desired // nil for a pod that no source knows
	observed pod.Observed
	action   plan.Action
}

// start begins an action. One that is under way with the same key is overtaken:
// its context ends.
func (w *Worker) start(ctx context.Context, st *state, uid pod.UID, t task) {
	key := t.action.Key()
	if f, busy := st.flights[key]; busy {
		f.cancel()
	}
	w.begin(st, t.action)
	st.seq++
	seq := st.seq
	ctx, cancel := context.WithCancel(ctx)
	st.flights[key] = flight{seq, cancel}
	st.history.InFlight[key] = t.action
	w.actions.Add(1)
	go func() {
		defer w.actions.Done()
		defer cancel()
		failure := w.execute(ctx, t)
		refreshed := w.Observed.Refresh(ctx, uid) == nil
		w.post(uid, result{key: key, seq: seq, action: t.action, failure: failure, at: time.Now(), refreshed: refreshed})
	}()
}

// execute does what an action says and returns why it could not, or nil.
func (w *Worker) execute(ctx context.Context, t task) *plan.Failure {
	a := t.action
	var err error
	switch a.Kind {
	case plan.RunSandbox:
		return w.runSandbox(ctx, t)
	case plan.StartContainer:
		return w.startContainer(ctx, t)
	case plan.StopContainer:
		err = w.stopContainer(ctx, t)
	case plan.StopSandbox:
		err = w.Sandboxes.StopSandbox(ctx, a.ID)
	case plan.RemoveSandbox:
		err = w.Sandboxes.RemoveSandbox(ctx, a.ID)
	case plan.RemoveContainer:
		err = w.Containers.RemoveContainer(ctx, a.ID)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.Log.Warn("Could not end part of a pod", "action", a.Kind, "id", a.ID, "container", a.Container, "err", err)
	if t.desired != nil {
		w.event(t.desired.Pod, "", v1.EventTypeWarning, eventFailedKillPod, "error killing pod: "+err.Error())
	}
	// What cannot be ended is tried again for ever; the action counts as under
	// way until then.
	pause(ctx, w.config.SyncBackoff)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (w *Worker) runSandbox(ctx context.Context, t task) *plan.Failure {
	p := t.desired.Pod
	if t.action.Attempt > 0 {
		w.event(p, "", v1.EventTypeNormal, eventSandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
	}
	_, err := w.Sandboxes.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p, Attempt: t.action.Attempt, Hostname: hostname(p)})
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.event(p, "", v1.EventTypeWarning, eventFailedSandbox, "Failed to create pod sandbox: "+err.Error())
	return &plan.Failure{Reason: eventFailedSandbox, Message: err.Error()}
}

func (w *Worker) startContainer(ctx context.Context, t task) *plan.Failure {
	p, a := t.desired.Pod, t.action
	c, _ := pod.ContainerSpec(p, a.Container)
	imageID, failure := w.ensureImage(ctx, p, c)
	if failure != nil {
		w.event(p, c.Name, v1.EventTypeWarning, eventFailed, "Error: "+failure.Reason)
		return failure
	}
	if ctx.Err() != nil {
		return nil
	}
	id, err := w.Containers.CreateContainer(ctx, a.ID, containerConfig(p, c, a.Attempt, imageID))
	if err != nil {
		return w.startFailed(ctx, p, c, "CreateContainerError", err)
	}
	w.event(p, c.Name, v1.EventTypeNormal, eventCreated, "Container created")
	if err := w.Containers.StartContainer(ctx, id); err != nil {
		return w.startFailed(ctx, p, c, "RunContainerError", err)
	}
	w.event(p, c.Name, v1.EventTypeNormal, eventStarted, "Container started")
	return nil
}

func (w *Worker) startFailed(ctx context.Context, p *v1.Pod, c *v1.Container, reason string, err error) *plan.Failure {
	if ctx.Err() != nil {
		// The pod is to end, or the agent is: nobody waits for this any more.
		return nil
	}
	w.event(p, c.Name, v1.EventTypeWarning, eventFailed, "Error: "+err.Error())
	return &plan.Failure{Reason: reason, Message: err.Error()}
}

func (w *Worker) stopContainer(ctx context.Context, t task) error {
	if t.desired != nil {
		w.event(t.desired.Pod, t.action.Container, v1.EventTypeNormal, eventKilling, t.action.Message)
	}
	return w.Containers.StopContainer(ctx, t.action.ID, t.action.Grace)
}

// ensureImage returns the ID of the container's image, pulled where the pull
// policy wants it.
func (w *Worker) ensureImage(ctx context.Context, p *v1.Pod, c *v1.Container) (string, *plan.Failure) {
	image, err := w.Images.Image(ctx, c.Image)
	switch {
	case err != nil && !podruntime.IsNotFound(err):
		return "", &plan.Failure{Reason: "ImageInspectError",
			Message: fmt.Sprintf("Failed to inspect image %q: %v", c.Image, err)}
	case err == nil && c.ImagePullPolicy != v1.PullAlways:
		w.event(p, c.Name, v1.EventTypeNormal, eventPulled,
			fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return image.ID, nil
	case c.ImagePullPolicy == v1.PullNever:
		message := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		w.event(p, c.Name, v1.EventTypeWarning, eventErrImageNeverPull, message)
		return "", &plan.Failure{Reason: "ErrImageNeverPull", Message: message}
	}
	return w.pullImage(ctx, p, c)
}

func (w *Worker) pullImage(ctx context.Context, p *v1.Pod, c *v1.Container) (string, *plan.Failure) {
	w.event(p, c.Name, v1.EventTypeNormal, eventPulling, fmt.Sprintf("Pulling image %q", c.Image))
	asked := time.Now()
	select {
	case w.pulls <- struct{}{}:
		defer func() { <-w.pulls }()
	case <-ctx.Done():
		return "", nil
	}
	began := time.Now()
	id, err := w.Images.PullImage(ctx, podruntime.PullRequest{Ref: c.Image, Pod: p}, nil)
	if ctx.Err() != nil {
		return "", nil
	}
	if err != nil {
		w.event(p, c.Name, v1.EventTypeWarning, eventFailed, fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
		reason := pullReason(err)
		return "", &plan.Failure{Reason: reason, Message: err.Error(), Pull: true,
			BackoffMessage: fmt.Sprintf("%s: %s: %v", backoffMessage(c.Image), reason, err)}
	}
	var size int64
	if image, err := w.Images.Image(ctx, id); err == nil {
		size = image.Size
	}
	now := time.Now()
	w.event(p, c.Name, v1.EventTypeNormal, eventPulled,
		fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", c.Image,
			now.Sub(began).Truncate(time.Millisecond), now.Sub(asked).Truncate(time.Millisecond), size))
	return id, nil
}

func backoffMessage(image string) string { return fmt.Sprintf("Back-off pulling image %q", image) }

func pullReason(err error) string {
	for _, known := range []error{podruntime.ErrInvalidImageName, podruntime.ErrRegistryUnavailable} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return plan.ReasonErrImagePull
}
