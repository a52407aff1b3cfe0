package pod

import v1 "k8s.io/api/core/v1"

// Event is something that happened to a pod and that its owner should hear of.
// Log lines and Kubernetes events are both made from it, so a log never says
// what an event could not.
type Event struct {
	Pod *v1.Pod
	// Container is the container's name; empty for the whole pod.
	Container string
	// Type is v1.EventTypeNormal or v1.EventTypeWarning.
	Type string
	// Reason is one of the kubelet's event reasons: Pulling, Created, Killing…
	Reason  string
	Message string
}

// FieldPath is the path of the event's container within the pod's spec, as
// kubectl describe shows it, or "" for the whole pod.
func (e Event) FieldPath() string {
	if e.Container == "" {
		return ""
	}
	for _, c := range e.Pod.Spec.InitContainers {
		if c.Name == e.Container {
			return "spec.initContainers{" + c.Name + "}"
		}
	}
	for _, c := range e.Pod.Spec.EphemeralContainers {
		if c.Name == e.Container {
			return "spec.ephemeralContainers{" + c.Name + "}"
		}
	}
	return "spec.containers{" + e.Container + "}"
}
