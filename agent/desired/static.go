package desired

import (
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// Static returns the static pod of a name as it is to be shown in the API
// server, also while it is being ended; nil if there is none.
func (s *Set) Static(name types.NamespacedName) *v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.pods {
		if e.Source != pod.SourceAPI && nameOf(e.Pod) == name {
			return e.Pod
		}
	}
	return nil
}

// SetMirror notes which mirror pod a static pod has; empty for none.
func (s *Set) SetMirror(uid pod.UID, mirror pod.MirrorUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.pods[uid]; ok {
		e.Mirror = mirror
	}
}

// enter adds a pod, or holds it back behind another one, and reports which. The
// lock is held.
func (s *Set) enter(source pod.Source, p *v1.Pod) bool {
	if !s.blocked(source, p) {
		s.add(source, p)
		return true
	}
	s.unhold(p)
	s.held = append(s.held, listed{source, p})
	return false
}

// blocked reports whether a static pod has to wait for another one to leave, or
// for itself, where its manifest was away for a while. The lock is held.
func (s *Set) blocked(source pod.Source, p *v1.Pod) bool {
	if source == pod.SourceAPI {
		return false
	}
	if _, known := s.pods[pod.UID(p.UID)]; known {
		return true
	}
	for _, e := range s.pods {
		if e.Source != pod.SourceAPI && nameOf(e.Pod) == nameOf(p) {
			return true
		}
	}
	return false
}

// updates reports whether p is what is now to be of a static pod that is known,
// and not one that is to follow it. The lock is held.
func (s *Set) updates(e *entry, p *v1.Pod) bool {
	return e.Removed.IsZero() && nameOf(e.Pod) == nameOf(p)
}

// unhold takes a pod from those that wait. The lock is held.
func (s *Set) unhold(p *v1.Pod) {
	s.held = slices.DeleteFunc(s.held, func(l listed) bool { return l.pod.UID == p.UID })
}

// release has those enter that need not wait any more, and returns them. The
// lock is held.
func (s *Set) release() []listed {
	var entered []listed
	s.held = slices.DeleteFunc(s.held, func(l listed) bool {
		if s.blocked(l.source, l.pod) {
			return false
		}
		s.add(l.source, l.pod)
		entered = append(entered, l)
		return true
	})
	return entered
}

// toldOf tells who wants to hear of static pods. The lock is not held.
func (s *Set) toldOf(source pod.Source, p *v1.Pod) {
	if source != pod.SourceAPI && s.hooks.Static != nil {
		s.hooks.Static(nameOf(p))
	}
}

func nameOf(p *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}
