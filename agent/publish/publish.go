// Package publish writes the pods' statuses to the API server and is the only
// writer of them.
//
// Statuses are coalesced: while a pod's write is under way newer ones replace
// each other, and only the newest is written next. A status that says what the
// API server already has is not written. A pod's deletion is completed after
// its last status was written. Goroutines exist only while there is something
// to write.
package publish

import (
	"context"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// API is what is asked of the API server. Errors are its own, wrapped.
type API interface {
	GetPod(ctx context.Context, namespace, name string) (*v1.Pod, error)
	// PatchPodStatus brings a pod's status from old's to the one given; a pod
	// of the same name with another UID is a Conflict.
	PatchPodStatus(ctx context.Context, old *v1.Pod, status v1.PodStatus) (*v1.Pod, error)
	DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace time.Duration) error
}

// maxWrites bounds the calls under way, so that a node full of changes does not
// crowd out its own lease.
const maxWrites = 10

// Delays between two tries of a failed write.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// Publisher writes the statuses of a node's pods. All methods may be called
// concurrently; Set, Finish, Forget and OnPod do not wait.
type Publisher struct {
	api    API
	log    *slog.Logger
	writes chan struct{}

	mu    sync.Mutex
	pods  map[types.UID]*entry
	dirty []types.UID
	wake  chan struct{}
}

// entry is one pod's.
type entry struct {
	// known is the newest object that the API server is known to have had.
	known *v1.Pod
	// wanted is the newest status.
	wanted v1.PodStatus
	// sent is what was wanted at the last write, answer what the API server
	// made of it; nil before the first.
	sent, answer *v1.PodStatus
	// finish says that the deletion is to be completed after wanted is written.
	finish bool
	// queued says that a write is under way or about to be.
	queued bool
}

// New returns a Publisher; nothing is written before Run.
func New(api API, log *slog.Logger) *Publisher {
	return &Publisher{api: api, log: log, writes: make(chan struct{}, maxWrites),
		pods: map[types.UID]*entry{}, wake: make(chan struct{}, 1)}
}

// Run writes until ctx ends and returns when the calls under way have.
func (p *Publisher) Run(ctx context.Context) {
	var writers sync.WaitGroup
	defer writers.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		p.mu.Lock()
		dirty := p.dirty
		p.dirty = nil
		p.mu.Unlock()
		for _, uid := range dirty {
			writers.Go(func() { p.write(ctx, uid) })
		}
	}
}

// Set takes the newest status of a pod. object is the pod as its source has it.
func (p *Publisher) Set(object *v1.Pod, status v1.PodStatus) { p.set(object, status, false) }

// Finish takes the last status of a pod of which nothing is left on the node.
// If the API server has it marked for deletion, it is deleted for good after
// the status was written.
func (p *Publisher) Finish(object *v1.Pod, status v1.PodStatus) { p.set(object, status, true) }

func (p *Publisher) set(object *v1.Pod, status v1.PodStatus, finish bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.pods[object.UID]
	if !ok {
		e = &entry{}
		p.pods[object.UID] = e
	}
	e.learn(object)
	e.wanted, e.finish = status, e.finish || finish
	p.queue(object.UID, e)
}

// OnPod tells what the API server has now. Where someone else changed what the
// node says, the node says it again.
func (p *Publisher) OnPod(object *v1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.pods[object.UID]; ok && e.learn(object) {
		p.queue(object.UID, e)
	}
}

// Forget drops a pod that the API server no longer has.
func (p *Publisher) Forget(uid pod.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pods, types.UID(uid))
}

// queue has the pod written if there is anything to write. The lock is held.
func (p *Publisher) queue(uid types.UID, e *entry) {
	if e.queued || e.clean() {
		return
	}
	e.queued = true
	p.dirty = append(p.dirty, uid)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// learn keeps the newer of two objects and reports whether it is the given one.
func (e *entry) learn(object *v1.Pod) bool {
	if e.known == nil {
		e.known = object
		return true
	}
	order, err := resourceversion.CompareResourceVersion(e.known.ResourceVersion, object.ResourceVersion)
	if err != nil || order <= 0 {
		e.known = object
		return true
	}
	return false
}

// clean reports whether the API server has all it should.
func (e *entry) clean() bool {
	if e.finish {
		return false
	}
	status := e.status()
	if apiequality.Semantic.DeepEqual(status, e.known.Status) {
		return true
	}
	// The API server may store a status otherwise than it was sent; sending it
	// again would change nothing.
	return e.sent != nil && apiequality.Semantic.DeepEqual(e.wanted, *e.sent) &&
		apiequality.Semantic.DeepEqual(e.known.Status, *e.answer)
}

// status is what is wanted, with the conditions that others own as the API
// server has them.
func (e *entry) status() v1.PodStatus {
	status := e.wanted
	status.Conditions = nil
	for _, c := range e.known.Status.Conditions {
		if !podstatus.Owned(c.Type) {
			status.Conditions = append(status.Conditions, c)
		}
	}
	for _, c := range e.wanted.Conditions {
		if podstatus.Owned(c.Type) {
			status.Conditions = append(status.Conditions, c)
		}
	}
	return status
}

// write brings one pod's status to the API server, again and again until there
// is nothing newer.
func (p *Publisher) write(ctx context.Context, uid types.UID) {
	delay := firstRetry
	for ctx.Err() == nil {
		p.mu.Lock()
		e, ok := p.pods[uid]
		if !ok {
			p.mu.Unlock()
			return
		}
		if e.clean() {
			e.queued = false
			p.mu.Unlock()
			return
		}
		known, wanted, status, finish := e.known, e.wanted, e.status(), e.finish
		p.mu.Unlock()

		answer, err := p.call(ctx, known, status, finish)
		switch {
		case err == nil && answer == nil, apierrors.IsNotFound(err):
			p.mu.Lock()
			if p.pods[uid] == e {
				delete(p.pods, uid)
			}
			p.mu.Unlock()
			return
		case err == nil:
			p.mu.Lock()
			e.sent, e.answer = &wanted, &answer.Status
			e.learn(answer)
			if finish {
				// It was not to be deleted after all.
				e.finish = false
			}
			p.mu.Unlock()
			delay = firstRetry
			continue
		case apierrors.IsConflict(err):
			p.reread(ctx, uid, known)
		}
		if ctx.Err() == nil {
			p.log.Warn("Could not publish a pod's status", "pod", pod.FullName(known), "err", err)
		}
		pause(ctx, delay)
		delay = min(2*delay, lastRetry)
	}
}

// call makes the calls of one write. It returns what the API server then has,
// or nil if the pod is gone.
func (p *Publisher) call(ctx context.Context, known *v1.Pod, status v1.PodStatus, finish bool) (*v1.Pod, error) {
	select {
	case p.writes <- struct{}{}:
		defer func() { <-p.writes }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	answer, err := p.api.PatchPodStatus(ctx, known, status)
	if err != nil || !finish || answer.DeletionTimestamp == nil {
		return answer, err
	}
	return nil, p.api.DeletePod(ctx, known.Namespace, known.Name, known.UID, 0)
}

// reread learns what the API server has after a conflict: the pod, changed
// since, or another one of the same name.
func (p *Publisher) reread(ctx context.Context, uid types.UID, known *v1.Pod) {
	now, err := p.api.GetPod(ctx, known.Namespace, known.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.pods[uid]
	switch {
	case !ok:
	case apierrors.IsNotFound(err), err == nil && now.UID != uid:
		delete(p.pods, uid)
	case err == nil:
		e.learn(now)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
