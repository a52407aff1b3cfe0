// Package desired merges the sources of pods and is the only writer of the
// desired set: what this node is to run, and what it has refused.
//
// A pod enters when a source first lists it and is admitted or rejected then,
// once. It leaves when its source no longer lists it and its worker has said
// that nothing of it is left. A static pod does not enter before another one of
// its name has left: a changed manifest is a new pod (static.go).
package desired

import (
	"cmp"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// Admit says why the node refuses a pod beside those that are active, or nil.
type Admit func(active []*v1.Pod, p *v1.Pod) *pod.Rejection

// Hooks are called without a lock held; they must not block.
type Hooks struct {
	// Changed is called for each pod of which something new is wanted.
	Changed func(pod.UID)
	// Ready is called once, when every source was heard to the end: from then
	// on a pod that is not in the set is not wanted.
	Ready func()
	// Static is called when a static pod of that name has entered or left; may
	// be nil.
	Static func(name types.NamespacedName)
}

// Set is the desired set. All methods may be called concurrently.
type Set struct {
	admit Admit
	hooks Hooks

	mu   sync.Mutex
	pods map[pod.UID]*entry
	// starting are the sources that were not heard to the end yet, with the
	// pods that they have listed so far.
	starting map[pod.Source][]*v1.Pod
	// held are the static pods that wait for another one to leave, in the order
	// in which they came.
	held []listed
	// preempted are the pods whose preemption was not told of yet.
	preempted []pod.UID
}

// listed is a pod as a source has it.
type listed struct {
	source pod.Source
	pod    *v1.Pod
}

type entry struct {
	pod.Desired
	// ended says that nothing of the pod runs any more, so that it takes no
	// room on the node.
	ended bool
}

// New returns a Set of pods from the given sources.
func New(sources []pod.Source, admit Admit, hooks Hooks) *Set {
	s := &Set{admit: admit, hooks: hooks, pods: map[pod.UID]*entry{}, starting: map[pod.Source][]*v1.Pod{}}
	for _, source := range sources {
		s.starting[source] = nil
	}
	return s
}

// Get returns what is wanted of a pod.
func (s *Set) Get(uid pod.UID) (pod.Desired, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.pods[uid]
	if !ok {
		return pod.Desired{}, false
	}
	return e.Desired, true
}

// Ready reports whether every source was heard to the end once.
func (s *Set) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.starting) == 0
}

// Pods returns the newest objects of all pods in the set, in no order.
func (s *Set) Pods() []*v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	pods := make([]*v1.Pod, 0, len(s.pods))
	for _, e := range s.pods {
		pods = append(pods, e.Pod)
	}
	return pods
}

// Put takes a pod as a source has it now. The pods that a source lists at the
// start are admitted together, the oldest first, when the source is synced.
func (s *Set) Put(source pod.Source, p *v1.Pod) {
	s.mu.Lock()
	uid := pod.UID(p.UID)
	e, known := s.pods[uid]
	first, starting := s.starting[source]
	var entered bool
	var resized []pod.UID
	switch {
	case known && source == pod.SourceAPI:
		s.put(e, p)
		resized = s.retryResizes()
	case known && s.updates(e, p):
		e.Pod, e.Asked = p, p
	case starting:
		s.starting[source] = append(without(first, p), p)
		s.mu.Unlock()
		return
	default:
		entered = s.enter(source, p)
		resized = s.retryResizes()
	}
	s.mu.Unlock()
	s.hooks.Changed(uid)
	s.changed(resized)
	if entered {
		s.toldOf(source, p)
	}
}

// Delete says that a source no longer lists a pod. last is the newest object
// that the source knew.
func (s *Set) Delete(source pod.Source, last *v1.Pod) {
	s.mu.Lock()
	if first, starting := s.starting[source]; starting {
		s.starting[source] = without(first, last)
	}
	s.unhold(last)
	uid := pod.UID(last.UID)
	e, known := s.pods[uid]
	if known && e.Removed.IsZero() {
		e.Pod, e.Asked = pod.WithAllocation(last, pod.AllocationOf(e.Pod)), last
		e.Removed = time.Now()
	}
	s.mu.Unlock()
	if known {
		s.hooks.Changed(uid)
	}
}

// Synced says that a source has listed everything it has.
func (s *Set) Synced(source pod.Source) {
	s.mu.Lock()
	first, starting := s.starting[source]
	if !starting {
		s.mu.Unlock()
		return
	}
	delete(s.starting, source)
	slices.SortStableFunc(first, func(a, b *v1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	entered := slices.DeleteFunc(first, func(p *v1.Pod) bool { return !s.enter(source, p) })
	ready := len(s.starting) == 0
	// Not before all are admitted: what they have goes before what one asks for.
	resized := s.retryResizes()
	s.mu.Unlock()
	defer s.changed(resized)
	for _, p := range entered {
		s.hooks.Changed(pod.UID(p.UID))
		s.toldOf(source, p)
	}
	if ready {
		s.hooks.Ready()
	}
}

// Ended says that nothing of a pod runs any more on this node, for good.
func (s *Set) Ended(uid pod.UID) {
	s.mu.Lock()
	var resized []pod.UID
	if e, ok := s.pods[uid]; ok {
		e.ended = true
		resized = s.retryResizes()
	}
	s.mu.Unlock()
	s.changed(resized)
}

// changed tells of pods of which something new is wanted. The lock is not held.
func (s *Set) changed(uids []pod.UID) {
	for _, uid := range uids {
		s.hooks.Changed(uid)
	}
}

// Forget drops a pod that its source no longer lists and of which nothing is
// left. A pod that is still listed stays.
func (s *Set) Forget(uid pod.UID) {
	s.mu.Lock()
	e, ok := s.pods[uid]
	if !ok || e.Removed.IsZero() {
		s.mu.Unlock()
		return
	}
	delete(s.pods, uid)
	entered := s.release()
	resized := s.retryResizes()
	s.mu.Unlock()
	s.changed(resized)
	s.toldOf(e.Source, e.Pod)
	for _, l := range entered {
		s.hooks.Changed(pod.UID(l.pod.UID))
		s.toldOf(l.source, l.pod)
	}
}

// Evict has a pod end for what it uses, which the reason says to its owner. One that
// has ended, or of which nothing was to run, is left alone.
func (s *Set) Evict(uid pod.UID, reason string) {
	s.mu.Lock()
	e, ok := s.pods[uid]
	evicted := ok && e.takesRoom() && e.Evicted == ""
	if evicted {
		e.Evicted = reason
	}
	s.mu.Unlock()
	if evicted {
		s.hooks.Changed(uid)
	}
}

// Active returns the newest objects of the pods of which something may run, in no
// order.
func (s *Set) Active() []*v1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.active()
}

// add admits or rejects a new pod. The lock is held, so that two pods cannot
// both take the last room.
func (s *Set) add(source pod.Source, p *v1.Pod) {
	e := &entry{Desired: pod.Desired{Pod: p, Asked: p, Source: source, FirstSeen: time.Now()}}
	if source == pod.SourceAPI {
		// What an agent before this one has granted it has.
		e.Pod = pod.WithAllocation(p, pod.PublishedAllocation(p))
	}
	// What has ended, or was told to before it began here, needs no room.
	if !pod.IsTerminal(p.Status.Phase) && p.DeletionTimestamp == nil {
		e.Rejection = s.admit(s.active(), e.Pod)
		if r := e.Rejection; r != nil && len(r.Preempt) > 0 {
			e.Rejection = nil
			s.preempt(r.Preempt)
		}
	}
	s.pods[pod.UID(p.UID)] = e
}

// preempt has pods end. What they have is free from now on. The lock is held.
func (s *Set) preempt(uids []pod.UID) {
	for _, uid := range uids {
		if e, ok := s.pods[uid]; ok {
			e.Preempted = true
			s.preempted = append(s.preempted, uid)
		}
	}
}

// active are the pods that take room on the node.
func (s *Set) active() []*v1.Pod {
	active := make([]*v1.Pod, 0, len(s.pods))
	for _, e := range s.pods {
		if e.takesRoom() {
			active = append(active, e.Pod)
		}
	}
	return active
}

// takesRoom reports whether something of the pod runs or is to run, and goes on to.
func (e *entry) takesRoom() bool {
	return e.Rejection == nil && !e.ended && !e.Preempted && !pod.IsTerminal(e.Pod.Status.Phase)
}

// without returns pods less the one with p's UID.
func without(pods []*v1.Pod, p *v1.Pod) []*v1.Pod {
	return slices.DeleteFunc(pods, func(q *v1.Pod) bool { return q.UID == p.UID })
}
