package apitest

import (
	"encoding/json"
	"fmt"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"nodelet/agent/pod"
)

// decodeOptions decodes what a deletion was asked with.
func decodeOptions(body []byte, options *metav1.DeleteOptions) error {
	if len(body) == 0 {
		return nil
	}
	if o, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil); err == nil {
		if decoded, ok := o.(*metav1.DeleteOptions); ok {
			*options = *decoded
			return nil
		}
	}
	if err := json.Unmarshal(body, options); err != nil {
		return fmt.Errorf("decoding what a deletion was asked with: %w", err)
	}
	return nil
}

// checkStatus notes what a status may not do after another one.
func (s *Server) checkStatus(old, next *v1.Pod) {
	before, now := &old.Status, &next.Status
	if pod.IsTerminal(before.Phase) && now.Phase != before.Phase {
		s.fault(next, "phase %s became %s", before.Phase, now.Phase)
	}
	if before.Phase == v1.PodRunning && now.Phase == v1.PodPending {
		s.fault(next, "phase Running became Pending")
	}
	if now.ObservedGeneration < before.ObservedGeneration || now.ObservedGeneration > next.Generation {
		s.fault(next, "observed generation %d became %d of %d", before.ObservedGeneration, now.ObservedGeneration, next.Generation)
	}
	if before.StartTime != nil && !before.StartTime.Equal(now.StartTime) {
		s.fault(next, "start time %v became %v", before.StartTime, now.StartTime)
	}
	if before.PodIP != "" && now.PodIP == "" {
		s.fault(next, "it lost its address %s", before.PodIP)
	}
	s.checkContainers(next, before.InitContainerStatuses, now.InitContainerStatuses)
	s.checkContainers(next, before.ContainerStatuses, now.ContainerStatuses)
	s.checkContainers(next, before.EphemeralContainerStatuses, now.EphemeralContainerStatuses)
	s.checkConditions(next, before.Conditions, now.Conditions)
}

func (s *Server) checkContainers(p *v1.Pod, before, now []v1.ContainerStatus) {
	for i := range min(len(before), len(now)) {
		old, c := &before[i], &now[i]
		if c.RestartCount < old.RestartCount {
			s.fault(p, "container %s: restart count %d became %d", c.Name, old.RestartCount, c.RestartCount)
		}
		// As the API server's own validation: what has ended for good stays.
		spec, _ := pod.ContainerSpec(p, c.Name)
		if t := old.State.Terminated; t != nil && c.State.Terminated == nil && spec != nil &&
			(!pod.ShouldRestart(p, spec, t.ExitCode) || pod.EphemeralContainer(p, c.Name) != nil) && spec.Image == old.Image {
			s.fault(p, "container %s ended with %d and became %+v", c.Name, t.ExitCode, c.State)
		}
	}
}

func (s *Server) checkConditions(p *v1.Pod, before, now []v1.PodCondition) {
	for _, c := range now {
		for _, old := range before {
			if old.Type != c.Type {
				continue
			}
			if !s.lossy && old.Status == c.Status && !old.LastTransitionTime.Equal(&c.LastTransitionTime) {
				s.fault(p, "condition %s stays %s, but its transition moves from %v to %v", c.Type, c.Status, old.LastTransitionTime, c.LastTransitionTime)
			}
			if c.LastTransitionTime.Before(&old.LastTransitionTime) || c.ObservedGeneration < old.ObservedGeneration {
				s.fault(p, "condition %s goes back: %+v, then %+v", c.Type, old, c)
			}
		}
	}
}
