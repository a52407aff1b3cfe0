package volume

import (
	"container/heap"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// maxRefreshing bounds the pods that are refreshed at a time.
const maxRefreshing = 4

// eventFailedMount is the kubelet's reason for what Event tells.
const eventFailedMount = "FailedMount"

// Run keeps what the volumes hold fresh until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	var refreshers sync.WaitGroup
	defer refreshers.Wait()
	defer m.endSetups()
	for {
		due, next := m.due(time.Now())
		for _, e := range due {
			refreshers.Go(func() { m.refresh(ctx, e) })
		}
		var timer <-chan time.Time
		if !next.IsZero() {
			timer = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer:
		}
	}
}

// due takes the pods from the queue that are to be refreshed now, as many as may
// be at a time, and says when there will be others; zero if that is not a
// matter of time.
func (m *Manager) due(now time.Time) (due []*entry, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) > 0 && m.refreshing < maxRefreshing {
		e := m.queue[0]
		if e.due.After(now) {
			return due, e.due
		}
		m.queue.remove(e)
		m.refreshing++
		due = append(due, e)
	}
	return due, time.Time{}
}

// refresh brings a pod's volumes up to date. What fails is told and tried again
// after a period; the volume stays as it was.
func (m *Manager) refresh(ctx context.Context, e *entry) {
	next := sync.OnceFunc(func() {
		m.mu.Lock()
		m.refreshing--
		m.mu.Unlock()
		m.stir()
	})
	defer next()
	held, err := m.take(ctx, e.uid)
	if err != nil {
		return
	}
	defer held.leave()
	defer m.forgetUnmounted(held)
	m.mu.Lock()
	p, mounted := held.pod, held.mounted
	m.mu.Unlock()
	if held != e || !mounted {
		return
	}
	for i := range p.Spec.Volumes {
		if spec := &p.Spec.Volumes[i]; hasFiles(&spec.VolumeSource) && isUsed(p, spec.Name) {
			m.tellStale(ctx, p, m.setUp(ctx, e, p, spec))
		}
	}
	if m.hasPublished(e) {
		// A driver may take long. Others do not wait for that.
		next()
		m.republishAll(ctx, e, p)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reschedule(e, p)
}

// republishAll has the drivers of a pod's volumes called again that want to be,
// until somebody wants the pod unmounted.
func (m *Manager) republishAll(ctx context.Context, e *entry, p *v1.Pod) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.mu.Lock()
	e.interrupt = cancel
	m.mu.Unlock()
	for i := range p.Spec.Volumes {
		if spec := &p.Spec.Volumes[i]; m.isPublished(e, spec) && isUsed(p, spec.Name) {
			m.tellStale(ctx, p, m.republish(ctx, e, p, spec))
		}
	}
	m.mu.Lock()
	e.interrupt = nil
	m.mu.Unlock()
}

// tellStale tells that a volume could not be refreshed, if there is an error.
func (m *Manager) tellStale(ctx context.Context, p *v1.Pod, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	m.Log.Warn("Cannot refresh a volume", "pod", pod.FullName(p), "err", err)
	m.Event(pod.Event{Pod: p, Type: v1.EventTypeWarning, Reason: eventFailedMount, Message: err.Error()})
}

// Update tells that the pod's object has changed: volumes may show its labels,
// its annotations or its resources. It does not wait; pods that are not mounted
// are none of its business.
func (m *Manager) Update(p *v1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.pods[pod.UID(p.UID)]
	if !ok || e.pod == nil {
		return
	}
	old := e.pod
	e.pod = p
	if e.mounted && usesDownwardAPI(p) && shown(old, p) {
		m.schedule(e, time.Now())
	}
}

// shown reports whether a volume may show what differs between two objects of a
// pod. Its generation is new when its spec is.
func shown(old, now *v1.Pod) bool {
	return old.Generation != now.Generation || !maps.Equal(old.Labels, now.Labels) || !maps.Equal(old.Annotations, now.Annotations)
}

// ObjectChanged tells that a config map or a secret that the pod refers to has
// changed. It does not wait.
func (m *Manager) ObjectChanged(uid pod.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.pods[uid]; ok && e.mounted && keepsChanging(e.pod) {
		m.schedule(e, time.Now())
	}
}

// reschedule has a pod refreshed after a period, or at once if it is not the
// object any more that its volumes were made from. Called with m.mu held.
func (m *Manager) reschedule(e *entry, madeFrom *v1.Pod) {
	switch {
	case e.pod != madeFrom && usesDownwardAPI(e.pod) && shown(madeFrom, e.pod):
		m.schedule(e, time.Now())
	case keepsChanging(e.pod) || m.hasPublished(e):
		period := m.config.SyncPeriod
		m.schedule(e, time.Now().Add(period+time.Duration(m.Rand.Int64N(int64(period/2)+1))))
	}
}

// schedule has a pod refreshed at a time, if not before. Called with m.mu held.
func (m *Manager) schedule(e *entry, at time.Time) {
	if e.at >= 0 {
		if !at.Before(e.due) {
			return
		}
		m.queue.remove(e)
	}
	e.due = at
	heap.Push(&m.queue, e)
	if e.at == 0 {
		m.stir()
	}
}

// stir has Run look again.
func (m *Manager) stir() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// keepsChanging reports whether what a pod's volumes hold may change without the
// pod.
func keepsChanging(p *v1.Pod) bool {
	for i := range p.Spec.Volumes {
		s := &p.Spec.Volumes[i].VolumeSource
		if s.ConfigMap != nil || s.Secret != nil || s.Projected != nil {
			return true
		}
	}
	return false
}

// hasPublished reports whether a mounted pod has a volume of a CSI driver.
func (m *Manager) hasPublished(e *entry) bool {
	return slices.ContainsFunc(e.pod.Spec.Volumes, func(v v1.Volume) bool { return m.isPublished(e, &v) })
}

func hasFiles(s *v1.VolumeSource) bool {
	return s.ConfigMap != nil || s.Secret != nil || s.DownwardAPI != nil || s.Projected != nil
}

func usesDownwardAPI(p *v1.Pod) bool {
	for i := range p.Spec.Volumes {
		s := &p.Spec.Volumes[i].VolumeSource
		if s.DownwardAPI != nil {
			return true
		}
		if s.Projected == nil {
			continue
		}
		for j := range s.Projected.Sources {
			if s.Projected.Sources[j].DownwardAPI != nil {
				return true
			}
		}
	}
	return false
}

// queue is a heap of the pods that are to be refreshed, by time.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].at, q[j].at = i, j
}
func (q *queue) Push(x any) {
	e := x.(*entry)
	e.at = len(*q)
	*q = append(*q, e)
}
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last], e.at = nil, -1
	*q = (*q)[:last]
	return e
}

func (q *queue) remove(e *entry) {
	if e.at >= 0 {
		heap.Remove(q, e.at)
	}
}
