package worker

import (
	"context"
	"time"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// result is how an action ended.
type result struct {
	key     string
	seq     uint64
	action  plan.Action
	failure *plan.Failure
	// done says that the action did what it was to do.
	done bool
	at   time.Time
	// refreshed says that the pod was looked at in the runtime since.
	refreshed bool
}

// refreshKey is the key of a repeated look at the pod in the runtime.
const refreshKey = "refresh"

// post hands a result to the goroutine of Run.
func (w *Worker) post(uid pod.UID, r result) {
	w.mu.Lock()
	w.results[uid] = append(w.results[uid], r)
	w.mu.Unlock()
	w.queue.add(uid)
}

// begin notes what starting an action changes in the pod's history.
func (w *Worker) begin(st *state, a plan.Action) {
	c := st.history.Containers[a.Container]
	switch {
	case a.Kind == plan.StartContainer:
		c.Restart = a.Restart
	case a.Kind == plan.StopContainer && a.Replace:
		c.Replace = a.ID
	default:
		return
	}
	st.history.Containers[a.Container] = c
}

// record takes in the results that have come since the last look.
func (w *Worker) record(st *state, uid pod.UID) {
	w.mu.Lock()
	results := w.results[uid]
	delete(w.results, uid)
	retry := w.retries[uid]
	delete(w.retries, uid)
	w.mu.Unlock()
	for _, r := range results {
		if f, ok := st.flights[r.key]; ok && f.seq == r.seq {
			delete(st.flights, r.key)
			delete(st.history.InFlight, r.key)
		}
		if r.refreshed && r.key == refreshKey {
			st.stale = false
		}
		if !r.refreshed {
			st.stale = true
		}
		w.recordOutcome(st, r)
	}
	if retry {
		retryNow(&st.history)
	}
}

// retryNow has what may have failed for want of a config map or a secret tried
// without further delay.
func retryNow(h *plan.History) {
	h.Mount.RetryAt = time.Time{}
	for name, c := range h.Containers {
		if c.Failure.Reason == reasonConfig {
			c.Failure.RetryAt = time.Time{}
			h.Containers[name] = c
		}
	}
}

func (w *Worker) recordOutcome(st *state, r result) {
	switch r.action.Kind {
	case plan.MountVolumes:
		st.history.Mount = plan.Failure{}
		if r.failure != nil {
			b := &st.history.MountBackoff
			*b = b.Next("", r.at, w.config.Backoff.MountInitial, w.config.Backoff.MountMax)
			st.history.Mount = w.timed(*r.failure, r.at, b.Delay)
		}
		st.history.Mounted = st.history.Mounted || r.done
	case plan.UnmountVolumes:
		st.history.Unmounted = st.history.Unmounted || r.done
	case plan.RemoveDirectory:
		st.history.Removed = st.history.Removed || r.done
	case plan.RunSandbox:
		st.history.Sandbox = plan.Failure{}
		if r.failure != nil {
			st.history.Sandbox = w.timed(*r.failure, r.at, w.syncBackoff())
		}
	case plan.StartContainer:
		w.recordStart(st, r)
	case plan.UpdateContainer:
		c := st.history.Containers[r.action.Container]
		c.Resize = plan.Failure{}
		if r.failure != nil {
			c.Resize = w.timed(*r.failure, r.at, w.syncBackoff())
		}
		if r.done {
			c.Updated, c.UpdatedTo = r.action.ID, r.action.Resources
		}
		st.history.Containers[r.action.Container] = c
	case plan.RunPreStop:
		c := st.history.Containers[r.action.Container]
		c.PreStopped = r.action.ID
		st.history.Containers[r.action.Container] = c
	}
}

func (w *Worker) recordStart(st *state, r result) {
	c := st.history.Containers[r.action.Container]
	c.Failure = plan.Failure{}
	if r.failure != nil {
		delay := w.syncBackoff()
		switch {
		case r.failure.Pull:
			c.Pull = c.Pull.WhenFor(r.action.Image).Next("", r.at, w.config.Backoff.PullInitial, w.config.Backoff.PullMax)
			delay = c.Pull.Delay
		case r.failure.Reason == reasonPostStart:
			// It has run, so its crash-loop back-off is what holds.
			delay = 0
		}
		c.Failure = w.timed(*r.failure, r.at, delay)
		c.Failure.For = r.action.Image
	}
	st.history.Containers[r.action.Container] = c
}

// syncBackoff is when to try again what failed: not all pods at once.
func (w *Worker) syncBackoff() time.Duration {
	d := w.config.SyncBackoff
	return d + time.Duration(w.Rand.Int64N(int64(d)/2+1))
}

func (w *Worker) timed(f plan.Failure, at time.Time, delay time.Duration) plan.Failure {
	f.At, f.RetryAt = at, at.Add(delay)
	return f
}

// refresh looks at the pod in the runtime again, after it could not be asked at
// the end of an action. Nothing is planned before that.
func (w *Worker) refresh(ctx context.Context, st *state, uid pod.UID) {
	if _, busy := st.flights[refreshKey]; busy {
		return
	}
	st.seq++
	seq := st.seq
	ctx, cancel := context.WithCancel(ctx)
	st.flights[refreshKey] = flight{seq, cancel}
	w.actions.Add(1)
	go func() {
		defer w.actions.Done()
		defer cancel()
		err := w.Observed.Refresh(ctx, uid)
		if err != nil {
			sleep.For(ctx, time.Second)
		}
		if ctx.Err() != nil {
			return
		}
		w.post(uid, result{key: refreshKey, seq: seq, at: time.Now(), refreshed: err == nil})
	}()
}
