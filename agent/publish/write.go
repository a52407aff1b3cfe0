package publish

import (
	"context"
	"math"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// job is one write: a pod as it was when the write began.
type job struct {
	uid      types.UID
	entry    *entry
	known    *v1.Pod
	wanted   v1.PodStatus
	status   v1.PodStatus
	finished bool
}

// writeQueued writes one pod after the other until none is queued. What to write is
// chosen when its turn has come, not when it begins to wait.
func (p *Publisher) writeQueued(ctx context.Context) {
	for p.more(ctx) && p.api.AwaitTurn(ctx) == nil {
		j, ok := p.take()
		if !ok {
			continue
		}
		answer, err := p.call(ctx, j)
		gone := err == nil && answer == nil || apierrors.IsNotFound(err)
		if apierrors.IsConflict(err) {
			gone = p.reread(ctx, j)
		}
		if err != nil && !gone && ctx.Err() == nil {
			p.log.Warn("Could not publish a pod's status", "pod", pod.FullName(j.known), "err", err)
		}
		p.settle(j, answer, gone)
	}
}

// more reports whether there is anything to write; if not, there is one writer less.
func (p *Publisher) more(ctx context.Context) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 && ctx.Err() == nil {
		return true
	}
	p.writers--
	return false
}

// take returns the next write, or false if there is none any more.
func (p *Publisher) take() (job, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for now := time.Now(); len(p.queue) > 0; {
		uid := p.next(now)
		e, ok := p.pods[uid]
		if !ok {
			continue
		}
		if e.clean() {
			e.queued = false
			continue
		}
		if n := restarted(&e.wanted) - restarted(&e.known.Status); n > 0 {
			e.restarts.count(n, now)
		}
		return job{uid, e, e.known, e.wanted, e.status(), e.finished}, true
	}
	return job{}, false
}

// next takes the pod from the queue whose turn it is: among those that were restarted
// equally often of late, the one that has waited longest.
func (p *Publisher) next(now time.Time) types.UID {
	turn, fewest := 0, math.Inf(1)
	for i, uid := range p.queue {
		e, ok := p.pods[uid]
		if !ok {
			turn = i
			break
		}
		if n := math.Round(e.restarts.of(now)); n < fewest {
			turn, fewest = i, n
		}
	}
	uid := p.queue[turn]
	p.queue = slices.Delete(p.queue, turn, turn+1)
	return uid
}

// call makes the calls of one write. It returns what the API server then has,
// or nil if the pod is gone.
func (p *Publisher) call(ctx context.Context, j job) (*v1.Pod, error) {
	answer, err := p.api.PatchPodStatus(ctx, j.known, j.status)
	if err != nil || !j.finished || answer.DeletionTimestamp == nil {
		return answer, err
	}
	return nil, p.api.DeletePod(ctx, j.known.Namespace, j.known.Name, j.known.UID, 0)
}

// reread learns what the API server has after a conflict, and reports whether
// the pod is gone: there may be another one of its name.
func (p *Publisher) reread(ctx context.Context, j job) (gone bool) {
	now, err := p.api.GetPod(ctx, j.known.Namespace, j.known.Name)
	if err != nil {
		return apierrors.IsNotFound(err)
	}
	if now.UID != j.known.UID {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	j.entry.learn(now)
	return false
}

// settle notes how a write ended. answer is nil if it failed.
func (p *Publisher) settle(j job, answer *v1.Pod, gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := j.entry
	if p.pods[j.uid] != e {
		// Forgotten meanwhile.
		return
	}
	switch {
	case gone && e.static:
		// The pod goes on; its next mirror is written to.
		e.lose(j.known.UID)
		e.queued, e.delay = false, 0
		p.enqueue(j.uid, e)
	case gone:
		p.forget(j.uid)
	case answer == nil:
		e.delay = min(max(2*e.delay, firstRetry), lastRetry)
		p.retries[j.uid] = time.Now().Add(e.delay)
		p.notify()
	default:
		e.delay = 0
		e.sent, e.answer = &j.wanted, &answer.Status
		e.learn(answer)
		e.queued = false
		p.enqueue(j.uid, e)
		p.tellWritten(j.uid, e)
	}
}
