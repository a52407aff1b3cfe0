package podruntimetest

import (
	"sync"

	"nodelet/agent/pod"
)

var eventRules = []rule{
	{"Status", status},
	{"TellsOfWhatHappens", tells},
	{"CancelEndsIt", cancelEnds},
}

func status(w *world) {
	s, err := w.Runtime.Status(w.ctx)
	w.ok(err)
	if s.Name == "" || s.Version == "" || !s.Ready {
		w.Errorf("the status of a good runtime: %+v", s)
	}
}

// ear counts the notifications of the test's pod.
type ear struct {
	uid   pod.UID
	mu    sync.Mutex
	count int
}

func (e *ear) hear(uid pod.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if uid == e.uid {
		e.count++
	}
}

func (e *ear) take() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.count
	e.count = 0
	return n
}

// tells: notifications may be lost in principle, but a runtime that never tells
// of these is of no use.
func tells(w *world) {
	e := &ear{uid: pod.UID(w.pod.UID)}
	cancel := w.Runtime.Subscribe(e.hear)
	defer cancel()
	heard := func(what string) {
		w.Helper()
		w.eventually("a notification that "+what, func() bool { return e.take() > 0 })
	}
	sandbox := w.sandbox(0)
	heard("a sandbox runs")
	server := w.create(sandbox, w.Server, 0)
	heard("a container was created")
	w.ok(w.Runtime.StartContainer(w.ctx, server))
	heard("a container has started")
	w.ok(w.Runtime.RemoveContainer(w.ctx, server))
	heard("a container was removed")
	id := w.create(sandbox, w.Fails, 1)
	e.take()
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	// Looking only when told is enough to see it run and end.
	seen := pod.ContainerCreated
	w.eventually("a notification after the container has ended by itself", func() bool {
		if e.take() > 0 {
			seen = w.state(id)
		}
		return seen == pod.ContainerExited
	})
	w.ok(w.Runtime.RemoveSandbox(w.ctx, sandbox))
	heard("a sandbox is gone")
}

func cancelEnds(w *world) {
	gone, still := &ear{uid: pod.UID(w.pod.UID)}, &ear{uid: pod.UID(w.pod.UID)}
	cancel := w.Runtime.Subscribe(gone.hear)
	defer w.Runtime.Subscribe(still.hear)()
	cancel()
	cancel()
	sandbox := w.sandbox(0)
	w.eventually("the other subscriber is told", func() bool { return still.take() > 0 })
	w.ok(w.Runtime.RemoveSandbox(w.ctx, sandbox))
	w.eventually("the other subscriber is told", func() bool { return still.take() > 0 })
	if n := gone.take(); n > 0 {
		w.Errorf("%d notifications after the subscription was cancelled", n)
	}
}
