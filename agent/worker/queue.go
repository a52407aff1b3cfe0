package worker

import (
	"container/heap"
	"sync"
	"time"

	"nodelet/agent/pod"
)

// queue holds the pods to look at: at once, or at a time. A pod is in it at
// most once each way, however often it is added. It costs no goroutine and no
// timer a pod; its user waits on wake and next.
type queue struct {
	mu    sync.Mutex
	dirty map[pod.UID]bool
	// order is the order in which the dirty ones were added.
	order []pod.UID
	times timeHeap
	index map[pod.UID]*timed
	wake  chan struct{}
}

type timed struct {
	uid pod.UID
	at  time.Time
	pos int
}

func newQueue() *queue {
	return &queue{dirty: map[pod.UID]bool{}, index: map[pod.UID]*timed{}, wake: make(chan struct{}, 1)}
}

// add has the pod looked at as soon as possible.
func (q *queue) add(uid pod.UID) {
	q.mu.Lock()
	if !q.dirty[uid] {
		q.dirty[uid] = true
		q.order = append(q.order, uid)
	}
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// addAt sets when the pod is to be looked at without anything happening; zero
// for never.
func (q *queue) addAt(uid pod.UID, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, ok := q.index[uid]
	switch {
	case at.IsZero() && ok:
		heap.Remove(&q.times, t.pos)
		delete(q.index, uid)
	case at.IsZero():
	case ok:
		t.at = at
		heap.Fix(&q.times, t.pos)
	default:
		t = &timed{uid: uid, at: at}
		q.index[uid] = t
		heap.Push(&q.times, t)
	}
}

// take returns the pods whose turn it is, in the order in which they came, and
// when the next one's time comes; zero for never.
func (q *queue) take(now time.Time) (uids []pod.UID, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	uids, q.order = q.order, nil
	for len(q.times) > 0 && !q.times[0].at.After(now) {
		t := heap.Pop(&q.times).(*timed)
		delete(q.index, t.uid)
		if !q.dirty[t.uid] {
			uids = append(uids, t.uid)
		}
	}
	clear(q.dirty)
	if len(q.times) > 0 {
		next = q.times[0].at
	}
	return uids, next
}

type timeHeap []*timed

func (h timeHeap) Len() int           { return len(h) }
func (h timeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
func (h *timeHeap) Push(x any) {
	t := x.(*timed)
	t.pos = len(*h)
	*h = append(*h, t)
}
func (h *timeHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
