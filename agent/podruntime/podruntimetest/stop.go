package podruntimetest

import (
	"context"
	"errors"
	"time"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

var stopRules = []rule{
	{"AsksFirst", stopAsks},
	{"KillsAfterGrace", stopKills},
	{"KillsAtOnceWithoutGrace", stopAtOnce},
	{"ContextEndsFirst", stopGivenUp},
	{"SecondCallIsShorter", stopShortened},
	{"ManyAtOnce", stopAtOneTime},
	{"NotStarted", stopCreated},
	{"NotThere", stopUnknown},
}

func stopAsks(w *world) {
	id := w.start(w.Server)
	w.hasWritten(id)
	began := time.Now()
	w.ok(w.Runtime.StopContainer(w.ctx, id, w.Patience))
	c := w.find(id)
	if c == nil || c.State != pod.ContainerExited || c.ExitCode == 137 || c.FinishedAt.IsZero() {
		w.Errorf("after it was asked to end: %+v", c)
	}
	if took := time.Since(began); took >= w.Patience {
		w.Errorf("it took %v, the whole grace", took)
	}
}

func stopKills(w *world) {
	id := w.stubborn()
	const grace = time.Second
	began := time.Now()
	w.ok(w.Runtime.StopContainer(w.ctx, id, grace))
	if took := time.Since(began); took < grace {
		w.Errorf("it was killed after %v, before its grace of %v was over", took, grace)
	}
	w.wantKilled(id)
}

func (w *world) wantKilled(id string) {
	w.Helper()
	if c := w.find(id); c == nil || c.State != pod.ContainerExited || c.ExitCode != 137 || c.Reason != "Error" || c.FinishedAt.IsZero() {
		w.Errorf("a killed container: %+v", c)
	}
}

// stubborn starts a container that ignores SIGTERM and waits until it does.
func (w *world) stubborn() (id string) {
	w.Helper()
	id = w.start(w.Stubborn)
	w.hasWritten(id)
	return id
}

// hasWritten waits until a container has written something: before, a signal may
// be lost on it, or end it.
func (w *world) hasWritten(id string) {
	w.Helper()
	w.eventually("the container has written a line", func() bool { return w.log(id, podruntime.LogOptions{Tail: -1}) != "" })
}

func stopAtOnce(w *world) {
	id := w.stubborn()
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	w.wantKilled(id)
}

// stopGivenUp: a caller that goes away has asked the container to end; nothing
// kills it after that.
func stopGivenUp(w *world) {
	const grace = 2 * time.Second
	stubborn := w.stubborn()
	ctx, cancel := context.WithTimeout(w.ctx, 500*time.Millisecond)
	defer cancel()
	err := w.within("StopContainer", async(func() error { return w.Runtime.StopContainer(ctx, stubborn, grace) }))
	if !errors.Is(err, context.DeadlineExceeded) {
		w.Errorf("StopContainer returned %v, want that the deadline has passed", err)
	}
	over := time.Now().Add(grace)
	w.eventually("the grace is over", func() bool { return time.Now().After(over) })
	if got := w.state(stubborn); got != pod.ContainerRunning {
		w.Errorf("after the caller went away it was ended all the same: %v", got)
	}
	w.ok(w.Runtime.StopContainer(w.ctx, stubborn, 0))

	// A container that does as it is asked ends, whoever still waits.
	server := w.create(w.observed().Sandboxes[0].ID, w.Server, 1)
	w.ok(w.Runtime.StartContainer(w.ctx, server))
	w.hasWritten(server)
	short, cancelShort := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancelShort()
	// Whether it ended in time does not matter.
	_ = w.Runtime.StopContainer(short, server, w.Patience)
	w.eventually("the container ends as it was asked to", func() bool { return w.state(server) == pod.ContainerExited })
}

func stopShortened(w *world) {
	id := w.stubborn()
	began := time.Now()
	first := async(func() error { return w.Runtime.StopContainer(w.ctx, id, w.Patience) })
	asked := began.Add(300 * time.Millisecond)
	w.eventually("the first call waits", func() bool { return time.Now().After(asked) })
	w.ok(w.Runtime.StopContainer(w.ctx, id, 500*time.Millisecond))
	w.wantKilled(id)
	w.ok(w.within("the first StopContainer", first))
	if took := time.Since(began); took >= w.Patience {
		w.Errorf("the first call waited for its own grace: %v", took)
	}
}

func stopAtOneTime(w *world) {
	id := w.start(w.Server)
	var results []<-chan error
	for range 5 {
		results = append(results, async(func() error { return w.Runtime.StopContainer(w.ctx, id, graceOfPod) }))
	}
	for _, result := range results {
		w.ok(w.within("StopContainer", result))
	}
	if got := w.state(id); got != pod.ContainerExited {
		w.Errorf("after five calls stopped it: %v", got)
	}
}

func stopCreated(w *world) {
	id := w.create(w.sandbox(0), w.Server, 0)
	w.ok(w.Runtime.StopContainer(w.ctx, id, graceOfPod))
	if got := w.state(id); got == pod.ContainerRunning {
		w.Errorf("a container that was never started is %v", got)
	}
}

func stopUnknown(w *world) {
	w.ok(w.Runtime.StopContainer(w.ctx, "no-such-container", graceOfPod))
	w.ok(w.Runtime.RemoveContainer(w.ctx, "no-such-container"))
	w.ok(w.Runtime.StopSandbox(w.ctx, "no-such-sandbox"))
	w.ok(w.Runtime.RemoveSandbox(w.ctx, "no-such-sandbox"))
	id := w.start(w.Server)
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	if _, err := w.Runtime.Exec(w.ctx, "no-such-container", podruntime.ExecOptions{Command: w.ExecExits(0)}); !podruntime.IsNotFound(err) {
		w.Errorf("running a command in what does not exist: %v, want not found", err)
	}
}
