package fakeruntime

import (
	"container/heap"
	"context"
	"time"
)

// timeline is what will happen by itself, in order of time. One timer is armed
// for the first of it.
type timeline struct {
	queue happenings
	// serial keeps happenings of one moment in the order they were planned in.
	serial uint64
	timer  *time.Timer
	// armed is the moment that the timer is set to, zero if it is not.
	armed time.Time
}

// happening is one entry of the timeline.
type happening struct {
	at     time.Time
	serial uint64
	// do is called with the Runtime locked, and Runtime.now being at.
	do func()
	// index is the place in the queue, -1 once it has left it.
	index int
}

// schedule plans do for a moment from now on.
func (r *Runtime) schedule(after time.Duration, do func()) *happening {
	t := &r.timeline
	t.serial++
	h := &happening{at: r.now.Add(after), serial: t.serial, do: do}
	heap.Push(&t.queue, h)
	return h
}

// cancel takes a happening out of the timeline; nil is none.
func (r *Runtime) cancel(h *happening) {
	if h != nil && h.index >= 0 {
		heap.Remove(&r.timeline.queue, h.index)
	}
}

// advance lets everything happen that is due.
func (r *Runtime) advance(now time.Time) {
	t := &r.timeline
	for len(t.queue) > 0 && !t.queue[0].at.After(now) {
		h := heap.Pop(&t.queue).(*happening)
		r.now = h.at
		h.do()
	}
	r.now = now
}

// arm sets the timer to the first happening.
func (r *Runtime) arm() {
	t := &r.timeline
	if len(t.queue) == 0 {
		if t.timer != nil {
			t.timer.Stop()
		}
		t.armed = time.Time{}
		return
	}
	first := t.queue[0].at
	if first.Equal(t.armed) {
		return
	}
	t.armed = first
	if t.timer == nil {
		t.timer = time.AfterFunc(time.Until(first), r.tick)
		return
	}
	t.timer.Reset(time.Until(first))
}

// tick is called by the timer.
func (r *Runtime) tick() {
	r.lock()
	defer r.unlock()
	r.timeline.armed = time.Time{}
}

// operation is a step of the runtime that takes time. Like a daemon's, it goes
// on when the caller has stopped waiting for it.
type operation struct {
	done chan struct{}
	err  error
}

// begin has step done after some time. step is called with the Runtime locked.
func (r *Runtime) begin(after time.Duration, step func() error) *operation {
	op := &operation{done: make(chan struct{})}
	do := func() {
		op.err = errPowerOff
		if !r.off {
			op.err = step()
		}
		close(op.done)
	}
	if after <= 0 {
		do()
	} else {
		r.schedule(after, do)
	}
	return op
}

// wait returns the operation's error once it is done, or that of ctx if it ends
// before. The Runtime must not be locked.
func (op *operation) wait(ctx context.Context) error {
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
	}
	// What comes at the same moment is decided the same way each time.
	select {
	case <-op.done:
		return op.err
	default:
		return ctx.Err()
	}
}

// happenings is a heap.
type happenings []*happening

func (q happenings) Len() int { return len(q) }

func (q happenings) Less(i, j int) bool {
	if q[i].at.Equal(q[j].at) {
		return q[i].serial < q[j].serial
	}
	return q[i].at.Before(q[j].at)
}

func (q happenings) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *happenings) Push(x any) {
	h := x.(*happening)
	h.index = len(*q)
	*q = append(*q, h)
}

func (q *happenings) Pop() any {
	last := len(*q) - 1
	h := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	h.index = -1
	return h
}
