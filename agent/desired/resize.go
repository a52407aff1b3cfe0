package desired

import (
	"cmp"
	"slices"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// put takes the newest object of a pod from the API server. What resources it has
// is for the node to say. The lock is held.
func (s *Set) put(e *entry, p *v1.Pod) {
	e.Asked = p
	s.allocate(e)
}

// allocate gives a pod the resources that it asks for, if there is room; else it
// keeps what it has. The lock is held.
func (s *Set) allocate(e *entry) {
	granted := pod.WithAllocation(e.Asked, pod.AllocationOf(e.Pod))
	e.Resize = nil
	if granted == e.Asked {
		e.Pod = e.Asked
		return
	}
	e.Pod = granted
	if e.Rejection != nil || e.ended || e.Preempted || e.Asked.DeletionTimestamp != nil || pod.IsTerminal(e.Asked.Status.Phase) {
		return
	}
	if r := s.admit(s.activeBut(e), e.Asked); r != nil {
		e.Resize = &pod.Rejection{Reason: v1.PodReasonDeferred, Message: r.Message}
		return
	}
	e.Pod, e.Granted = e.Asked, e.Asked.Generation
}

// retryResizes tries the resizes again that had no room, the most important pods
// first, and returns the pods of which something new is wanted: those that have
// what they ask for now, and those that were preempted. The lock is held.
func (s *Set) retryResizes() (changed []pod.UID) {
	changed, s.preempted = s.preempted, nil
	var waiting []*entry
	for _, e := range s.pods {
		if e.Pod != e.Asked && e.Source == pod.SourceAPI {
			waiting = append(waiting, e)
		}
	}
	slices.SortFunc(waiting, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(priority(b.Pod), priority(a.Pod)), cmp.Compare(a.Pod.UID, b.Pod.UID))
	})
	for _, e := range waiting {
		before := e.Resize
		s.allocate(e)
		if e.Resize == nil || before == nil {
			changed = append(changed, e.UID())
		}
	}
	return changed
}

func priority(p *v1.Pod) int32 {
	if p.Spec.Priority == nil {
		return 0
	}
	return *p.Spec.Priority
}

// activeBut are the pods that take room on the node, but for one.
func (s *Set) activeBut(e *entry) []*v1.Pod {
	return slices.DeleteFunc(s.active(), func(p *v1.Pod) bool { return p.UID == e.Pod.UID })
}
