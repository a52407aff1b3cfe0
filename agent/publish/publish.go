// Package publish writes the pods' statuses to the API server and is the only
// writer of them.
//
// Statuses are coalesced: while a pod's write is under way newer ones replace
// each other, and only the newest is written next. A status that says what the
// API server already has is not written. A pod's deletion is completed after
// its last status was written. Where more is to be written than the limit of calls
// allows, pods that are restarted again and again come after the others, so that a
// node full of crash loops does not hold these up.
//
// Who is written when is decided here; what is written, and what the API server
// is known to have, in entry.go; the calls are made in write.go. Besides Run
// there are goroutines only while there is something to write.
package publish

import (
	"context"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// API is what is asked of the API server. Errors are its own, wrapped.
type API interface {
	GetPod(ctx context.Context, namespace, name string) (*v1.Pod, error)
	// AwaitTurn waits until a call of PatchPodStatus is within the agent's bounds.
	AwaitTurn(ctx context.Context) error
	// PatchPodStatus brings a pod's status from old's to the one given; a pod
	// of the same name with another UID is a Conflict.
	PatchPodStatus(ctx context.Context, old *v1.Pod, status v1.PodStatus) (*v1.Pod, error)
	DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace time.Duration) error
}

// maxWriters bounds the calls under way, so that a node full of changes does
// not flood the API server.
const maxWriters = 10

// Delays between two tries of a failed write.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// Publisher writes the statuses of a node's pods. All methods may be called
// concurrently; Set, Finish, Forget and OnPod do not wait.
type Publisher struct {
	api API
	// mirror returns the newest known mirror of a static pod, or nil. It is
	// called with the lock held.
	mirror func(static *v1.Pod) *v1.Pod
	// written is told of the pods that were asked after by Written. It is called with
	// the lock held.
	written func(pod.UID)
	log     *slog.Logger

	mu   sync.Mutex
	pods map[types.UID]*entry
	// queue has the pods to be written, the longest waiting first. next says whose
	// turn it is.
	queue []types.UID
	// retries has the pods whose last write failed, with the time of the next.
	retries map[types.UID]time.Time
	// writers is how many goroutines write.
	writers int
	wake    chan struct{}
}

// New returns a Publisher; nothing is written before Run. mirror returns the
// newest known mirror pod of a static pod, or nil; written is told what Written says.
// Both return at once and call no Publisher.
func New(api API, mirror func(static *v1.Pod) *v1.Pod, written func(pod.UID), log *slog.Logger) *Publisher {
	return &Publisher{api: api, mirror: mirror, written: written, log: log, pods: map[types.UID]*entry{}, retries: map[types.UID]time.Time{},
		wake: make(chan struct{}, 1)}
}

// Run writes until ctx ends and returns when the calls under way have.
func (p *Publisher) Run(ctx context.Context) {
	var writers sync.WaitGroup
	defer writers.Wait()
	var retry <-chan time.Time
	for {
		n, next := p.plan(time.Now())
		for range n {
			writers.Go(func() { p.writeQueued(ctx) })
		}
		retry = nil
		if !next.IsZero() {
			retry = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-retry:
		}
	}
}

// plan queues the retries that are due and returns how many more writers to
// start and when the next retry is due, zero for none.
func (p *Publisher) plan(now time.Time) (start int, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, at := range p.retries {
		switch {
		case !at.After(now):
			delete(p.retries, uid)
			p.queue = append(p.queue, uid)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	start = max(min(len(p.queue), maxWriters)-p.writers, 0)
	p.writers += start
	return start, next
}

// Set takes the newest status of a pod. object is the pod as its source has it.
func (p *Publisher) Set(object *v1.Pod, status v1.PodStatus) { p.set(object, status, false) }

// Finish takes the last status of a pod of which nothing is left on the node.
// Once the API server has the status, and has the pod marked for deletion, the
// pod is deleted for good.
func (p *Publisher) Finish(object *v1.Pod, status v1.PodStatus) { p.set(object, status, true) }

func (p *Publisher) set(object *v1.Pod, status v1.PodStatus, finished bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.pods[object.UID]
	if !ok {
		e = &entry{static: pod.IsStatic(object)}
		p.pods[object.UID] = e
	}
	if !e.static {
		e.learn(object)
	} else if m := p.mirror(object); m != nil {
		e.learn(m)
	}
	e.wanted, e.finished = status, e.finished || finished
	p.enqueue(object.UID, e)
}

// OnPod tells what the API server has now, a pod or a mirror pod. Where someone else changed what the
// node says, the node says it again; where a finished pod is to be deleted, it
// is.
func (p *Publisher) OnPod(object *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	uid := object.UID
	if pod.IsMirror(object) {
		// The hash of a static pod is its UID.
		uid = types.UID(object.Annotations[pod.AnnotationMirror])
	}
	if e, ok := p.pods[uid]; ok && e.static == pod.IsMirror(object) && e.learn(object) {
		p.enqueue(uid, e)
		p.tellWritten(uid, e)
	}
}

// Written reports whether the API server has the newest status of a pod, or nobody
// wants it there. If not, it is told later that it has.
func (p *Publisher) Written(uid pod.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.pods[types.UID(uid)]
	if !ok || e.clean() {
		return true
	}
	e.awaited = true
	return false
}

// tellWritten tells that the API server has what was asked after. The lock is held.
func (p *Publisher) tellWritten(uid types.UID, e *entry) {
	if e.awaited && e.clean() {
		e.awaited = false
		p.written(pod.UID(uid))
	}
}

// Forget drops a pod that the API server no longer has.
func (p *Publisher) Forget(uid pod.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(types.UID(uid))
}

// forget drops a pod. The lock is held.
func (p *Publisher) forget(uid types.UID) {
	if e, ok := p.pods[uid]; ok && e.awaited {
		p.written(pod.UID(uid))
	}
	delete(p.pods, uid)
	delete(p.retries, uid)
}

// enqueue has the pod written if there is anything to write and it is not under
// way. The lock is held.
func (p *Publisher) enqueue(uid types.UID, e *entry) {
	if e.queued || e.clean() {
		return
	}
	e.queued = true
	p.queue = append(p.queue, uid)
	p.notify()
}

// notify has Run look again.
func (p *Publisher) notify() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}
