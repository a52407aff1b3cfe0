package worker

import (
	"context"
	"encoding/json"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// Reasons of events of resizes, as the kubelet gives them.
const (
	eventResizeDeferred  = "ResizeDeferred"
	eventResizeStarted   = "ResizeStarted"
	eventResizeCompleted = "ResizeCompleted"
	eventResizeError     = "ResizeError"
)

// resizeTold is what was told of a pod's resizes.
type resizeTold struct {
	// granted is the generation of the newest resize that was told to have started;
	// under says that it was not told to be complete.
	granted int64
	under   bool
	// deferred is the generation that was told to be deferred; 0 for none.
	deferred int64
}

// tellResize makes events of what is new of a pod's resources.
func (w *Worker) tellResize(st *state, d *pod.Desired, next plan.Result) {
	told := &st.resize
	switch {
	case d.Resize == nil:
		told.deferred = 0
	case told.deferred != d.Pod.Generation:
		told.deferred = d.Pod.Generation
		w.event(d.Pod, "", v1.EventTypeWarning, eventResizeDeferred,
			resizeMessage("Pod resize "+d.Resize.Reason, d.Asked, d.Pod.Generation, d.Resize.Message))
	}
	if next.Phase != pod.Syncing {
		return
	}
	if d.Granted != told.granted {
		told.granted, told.under = d.Granted, true
		w.event(d.Pod, "", v1.EventTypeNormal, eventResizeStarted, resizeMessage("Pod resize started", d.Pod, d.Granted, ""))
	}
	if told.under && next.Resizing == nil {
		told.under = false
		w.event(d.Pod, "", v1.EventTypeNormal, eventResizeCompleted, resizeMessage("Pod resize completed", d.Pod, d.Granted, ""))
	}
}

// updateContainer gives a container the resources of its spec.
func (w *Worker) updateContainer(ctx context.Context, t task) *plan.Failure {
	p := t.desired.Pod
	c, _ := pod.ContainerSpec(p, t.action.Container)
	err := w.Containers.UpdateContainer(ctx, t.action.ID, c.Resources)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	w.event(p, "", v1.EventTypeWarning, eventResizeError, resizeMessage("Pod resize error", p, p.Generation, err.Error()))
	return &plan.Failure{Reason: plan.ReasonResizeError, Message: err.Error()}
}

type containerResources struct {
	Name      string                  `json:"name"`
	Resources v1.ResourceRequirements `json:"resources,omitempty"`
}

// resizeMessage is the message of an event: what it is about, and the pod's
// resources as JSON.
func resizeMessage(what string, p *v1.Pod, generation int64, fault string) string {
	summary := struct {
		InitContainers []containerResources `json:"initContainers,omitempty"`
		Containers     []containerResources `json:"containers,omitempty"`
		Generation     int64                `json:"generation"`
		Error          string               `json:"error,omitempty"`
	}{Generation: generation, Error: fault}
	for i := range p.Spec.InitContainers {
		summary.InitContainers = append(summary.InitContainers, containerResources{p.Spec.InitContainers[i].Name, p.Spec.InitContainers[i].Resources})
	}
	for i := range p.Spec.Containers {
		summary.Containers = append(summary.Containers, containerResources{p.Spec.Containers[i].Name, p.Spec.Containers[i].Resources})
	}
	data, err := json.Marshal(summary)
	if err != nil {
		return what
	}
	return what + ": " + string(data)
}
