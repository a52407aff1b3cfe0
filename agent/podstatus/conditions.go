package podstatus

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// Reasons of conditions, as the kubelet gives them.
const (
	reasonPodCompleted             = "PodCompleted"
	reasonPodFailed                = "PodFailed"
	reasonContainersNotReady       = "ContainersNotReady"
	reasonContainersNotInitialized = "ContainersNotInitialized"
	reasonReadinessGatesNotReady   = "ReadinessGatesNotReady"
	reasonPodSandboxNotReady       = "PodSandboxNotReady"
)

// Owned reports whether the node writes conditions of this type. Others belong
// to someone else and are passed on as they are.
func Owned(t v1.PodConditionType) bool {
	switch t {
	case v1.PodReadyToStartContainers, v1.PodInitialized, v1.PodReady, v1.ContainersReady, v1.PodScheduled,
		v1.PodResizePending, v1.PodResizeInProgress:
		return true
	}
	return false
}

// Disrupts reports whether a condition is the node's own word that it has ended
// the pod, though others may write conditions of that type as well.
func Disrupts(c *v1.PodCondition) bool {
	return c.Type == v1.DisruptionTarget && c.Reason == v1.PodReasonTerminationByKubelet
}

// conditions returns the pod's conditions: those of others first, then ours.
// comes is the phase that the pod comes to: while what is left of it ends, its
// conditions are already those of that phase.
func (in *Input) conditions(status *v1.PodStatus, comes v1.PodPhase) []v1.PodCondition {
	var all []v1.PodCondition
	for _, c := range in.Desired.Pod.Status.Conditions {
		if !Owned(c.Type) {
			all = append(all, c)
		}
	}
	if in.End != nil && in.End.Reason == plan.ReasonPreempting {
		all = slices.DeleteFunc(all, func(c v1.PodCondition) bool { return c.Type == v1.DisruptionTarget })
		all = append(all, in.stamp(v1.PodCondition{Type: v1.DisruptionTarget, Status: v1.ConditionTrue,
			Reason: v1.PodReasonTerminationByKubelet, Message: "Pod was preempted by Kubelet to accommodate a critical pod."}))
	}
	containersReady := in.containersReady(status, comes)
	if r := in.Desired.Resize; r != nil {
		all = append(all, in.stamp(v1.PodCondition{Type: v1.PodResizePending, Status: v1.ConditionTrue, Reason: r.Reason, Message: r.Message}))
	}
	if r := in.Resizing; r != nil {
		all = append(all, in.stamp(v1.PodCondition{Type: v1.PodResizeInProgress, Status: v1.ConditionTrue, Reason: r.Reason, Message: r.Message}))
	}
	for _, c := range []v1.PodCondition{
		in.readyToStart(),
		in.initialized(status, comes),
		in.ready(containersReady, all),
		containersReady,
		{Type: v1.PodScheduled, Status: v1.ConditionTrue},
	} {
		all = append(all, in.stamp(c))
	}
	return all
}

// stamp gives a condition the time since when its status holds.
func (in *Input) stamp(c v1.PodCondition) v1.PodCondition {
	c.ObservedGeneration = in.Desired.Pod.Generation
	c.LastTransitionTime = metav1.NewTime(in.Now).Rfc3339Copy()
	for i := range in.Previous.Conditions {
		if old := &in.Previous.Conditions[i]; old.Type == c.Type && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return c
}

func (in *Input) readyToStart() v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionTrue}
	switch s := in.Observed.Sandbox(); {
	case s == nil:
		c.Status, c.Reason, c.Message = v1.ConditionFalse, reasonPodSandboxNotReady, "no pod sandbox exists"
	case !s.Ready:
		c.Status, c.Reason, c.Message = v1.ConditionFalse, reasonPodSandboxNotReady, "pod sandbox is not ready"
	}
	return c
}

// initialized is about the init containers. A pod that was initialized once
// stays so.
func (in *Input) initialized(status *v1.PodStatus, comes v1.PodPhase) v1.PodCondition {
	c := v1.PodCondition{Type: v1.PodInitialized, Status: v1.ConditionTrue}
	if comes == v1.PodSucceeded {
		c.Reason = reasonPodCompleted
		return c
	}
	if in.anyStarted(status) || statusOf(in.Previous.Conditions, v1.PodInitialized) == v1.ConditionTrue {
		return c
	}
	var incomplete []string
	for i := range status.InitContainerStatuses {
		s := &status.InitContainerStatuses[i]
		done := s.Ready
		if in.isSidecar(s.Name) {
			done = *s.Started
		}
		if !done {
			incomplete = append(incomplete, s.Name)
		}
	}
	if len(incomplete) > 0 {
		c.Status, c.Reason = v1.ConditionFalse, reasonContainersNotInitialized
		c.Message = fmt.Sprintf("containers with incomplete status: %s", incomplete)
	}
	return c
}

func (in *Input) isSidecar(name string) bool {
	c, init := pod.ContainerSpec(in.Desired.Pod, name)
	return init && pod.IsSidecar(c)
}

func (in *Input) containersReady(status *v1.PodStatus, comes v1.PodPhase) v1.PodCondition {
	c := v1.PodCondition{Type: v1.ContainersReady, Status: v1.ConditionFalse}
	switch comes {
	case v1.PodSucceeded:
		c.Reason = reasonPodCompleted
		return c
	case v1.PodFailed:
		c.Reason = reasonPodFailed
		return c
	}
	var unready []string
	for i := range status.InitContainerStatuses {
		if s := &status.InitContainerStatuses[i]; in.isSidecar(s.Name) && !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	for i := range status.ContainerStatuses {
		if s := &status.ContainerStatuses[i]; !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	if len(unready) > 0 {
		c.Reason = reasonContainersNotReady
		c.Message = fmt.Sprintf("containers with unready status: %s", unready)
		return c
	}
	c.Status = v1.ConditionTrue
	return c
}

// ready is ContainersReady and every readiness gate.
func (in *Input) ready(containersReady v1.PodCondition, foreign []v1.PodCondition) v1.PodCondition {
	c := containersReady
	c.Type = v1.PodReady
	if c.Status != v1.ConditionTrue {
		return c
	}
	var unready []string
	for _, gate := range in.Desired.Pod.Spec.ReadinessGates {
		switch status := statusOf(foreign, gate.ConditionType); status {
		case v1.ConditionTrue:
		case "":
			unready = append(unready, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate.ConditionType))
		default:
			unready = append(unready, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate.ConditionType, status))
		}
	}
	if len(unready) > 0 {
		c.Status, c.Reason, c.Message = v1.ConditionFalse, reasonReadinessGatesNotReady, strings.Join(unready, ", ")
	}
	return c
}

func statusOf(conditions []v1.PodCondition, t v1.PodConditionType) v1.ConditionStatus {
	for _, c := range conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}
