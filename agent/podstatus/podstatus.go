// Package podstatus says what the v1.PodStatus of a pod is, given what is
// known of it. It is pure: the time is an argument.
//
// Start at Compute. Container statuses are made in containers.go, the pod's
// phase in phase.go and its conditions in conditions.go, after the API
// reference and the kubelet's observable behaviour.
package podstatus

import (
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
)

// Input is everything that a pod's status depends on. Compute changes none of
// it.
type Input struct {
	Desired  *pod.Desired
	Observed pod.Observed
	Probes   pod.Probes
	// Phase is where the pod stands on this node.
	Phase pod.Phase
	// Waiting says why containers that are to run do not, by container name.
	Waiting map[string]plan.Waiting
	// Resizing says that containers do not have the resources of their specs yet.
	Resizing *plan.Waiting
	// End is why the node ends the pod; nil if it does not.
	End *plan.End
	// Previous is the status as this agent last computed it or, before it has,
	// as the API server has it.
	Previous *v1.PodStatus
	// HostIPs are the node's addresses, the primary one first.
	HostIPs []string
	// RuntimeName is the scheme of container IDs: docker://….
	RuntimeName string
	// RecursiveReadOnly says that mounts can be read-only with all that is mounted
	// below.
	RecursiveReadOnly bool
	Now               time.Time
}

// Compute returns the pod's status. Conditions that the node does not own are
// those of the newest object from the API server.
func Compute(in Input) v1.PodStatus {
	if r := in.Desired.Rejection; r != nil {
		return rejected(in, r)
	}
	if in.neverBegan() {
		status := *in.Previous.DeepCopy()
		status.ObservedGeneration = in.Desired.Pod.Generation
		return status
	}
	p := in.Desired.Pod
	status := v1.PodStatus{
		ObservedGeneration: p.Generation,
		QOSClass:           in.Previous.QOSClass,
		NominatedNodeName:  in.Previous.NominatedNodeName,
		Resize:             in.Previous.Resize,
		StartTime:          startTime(in),
	}
	status.InitContainerStatuses = in.containerStatuses(p.Spec.InitContainers, in.Previous.InitContainerStatuses)
	status.ContainerStatuses = in.containerStatuses(p.Spec.Containers, in.Previous.ContainerStatuses)
	status.EphemeralContainerStatuses = in.ephemeralStatuses()

	comes := in.setPhase(&status)
	in.setAddresses(&status)
	status.Conditions = in.conditions(&status, comes)
	return status
}

// neverBegan reports whether the pod ended before anything of it began, as one
// that was rejected. An agent that was restarted since does not know why, and has
// nothing to add.
func (in *Input) neverBegan() bool {
	return pod.IsTerminal(in.Previous.Phase) && len(in.Previous.ContainerStatuses) == 0 && in.Observed.Empty()
}

// rejected is the status of a pod that the node will not run.
func rejected(in Input, r *pod.Rejection) v1.PodStatus {
	status := *in.Previous.DeepCopy()
	status.ObservedGeneration = in.Desired.Pod.Generation
	status.StartTime = startTime(in)
	status.Phase = v1.PodFailed
	status.Reason = r.Reason
	status.Message = "Pod was rejected: " + r.Message
	return status
}

func startTime(in Input) *metav1.Time {
	switch {
	case in.Previous.StartTime != nil:
		return in.Previous.StartTime
	case in.Desired.Pod.Status.StartTime != nil:
		return in.Desired.Pod.Status.StartTime
	}
	t := metav1.NewTime(in.Now).Rfc3339Copy()
	return &t
}

// setAddresses sets the host's and the pod's addresses. A pod keeps the last
// address that it had after its sandbox is gone.
func (in *Input) setAddresses(status *v1.PodStatus) {
	for i, ip := range in.HostIPs {
		if i == 0 {
			status.HostIP = ip
		}
		status.HostIPs = append(status.HostIPs, v1.HostIP{IP: ip})
	}
	var ips []string
	if in.Desired.Pod.Spec.HostNetwork {
		ips = in.HostIPs
	} else if s := in.Observed.Sandbox(); s != nil {
		ips = s.IPs
	}
	for i, ip := range ips {
		if i == 0 {
			status.PodIP = ip
		}
		status.PodIPs = append(status.PodIPs, v1.PodIP{IP: ip})
	}
	if len(ips) == 0 {
		status.PodIP, status.PodIPs = in.Previous.PodIP, in.Previous.PodIPs
	}
}
