package fakeruntime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

func TestPowerLoss(t *testing.T) {
	play(t, Behavior{Exits: true, ExitAfter: Latency{Min: 60 * second}, Start: Latency{Min: second}, Pull: Latency{Min: second}, IgnoreSIGTERM: true}, func(w *world) {
		ctx := w.Context()
		p, starting, ended := newPod("p"), newPod("starting"), newPod("ended")
		last := w.start(ended)
		w.ok(w.StopContainer(ctx, last, 0))
		id := w.start(p)
		waiting := w.create(starting, w.sandbox(starting, 0), 0)
		results := make(chan error)
		calls := []func() error{
			func() error { return w.StartContainer(ctx, waiting) },
			func() error { return w.StopContainer(ctx, id, 30*second) },
			func() error {
				_, err := w.PullImage(ctx, podruntime.PullRequest{Ref: "another"}, nil)
				return err
			},
		}
		for _, call := range calls {
			go func() { results <- call() }()
		}
		time.Sleep(100 * time.Millisecond)
		defer w.Subscribe(func(uid pod.UID) { t.Errorf("a dead machine told of %s", uid) })()
		off := time.Now()
		w.PowerOff()
		for range calls {
			if err := <-results; err == nil {
				t.Error("a call that was under way succeeded")
			}
		}
		if time.Since(off) != 0 {
			t.Errorf("the calls under way were cut off after %v", time.Since(off))
		}
		if _, err := w.ListPods(ctx); err == nil {
			t.Error("a dead machine answered")
		}
		if _, err := w.Status(ctx); err == nil {
			t.Error("a dead machine answered")
		}
		if w.ahead() > 0 || len(w.Usage()) > 0 {
			t.Error("a dead machine is at work")
		}
		time.Sleep(time.Hour)
		w.PowerOn()
		synctest.Wait()
		if c := w.container(p); c.State != pod.ContainerExited || c.ExitCode != 255 || !c.FinishedAt.Equal(off) {
			t.Errorf("what ran: %+v", c)
		}
		if c := w.container(starting); c.State != pod.ContainerCreated {
			t.Errorf("what was being started: %+v", c)
		}
		w.ok(w.StopContainer(ctx, waiting, second))
		w.wantState(starting, pod.ContainerCreated)
		if c := w.container(ended); c.ExitCode != 137 {
			t.Errorf("what had ended: %+v", c)
		}
		for _, s := range w.observed(p).Sandboxes {
			if s.Ready || len(s.IPs) > 0 {
				t.Errorf("its sandbox: %+v", s)
			}
		}
	})
}

func TestMachineWorksAfterPowerLoss(t *testing.T) {
	play(t, Behavior{Exits: true, ExitAfter: Latency{Min: second}}, func(w *world) {
		p := newPod("p")
		w.start(p)
		w.PowerOff()
		w.PowerOff()
		w.PowerOn()
		id := w.create(p, w.sandbox(p, 1), 1)
		w.ok(w.StartContainer(w.Context(), id))
		time.Sleep(second)
		w.wantState(p, pod.ContainerExited)
		if v := w.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
	})
}

func TestSetScript(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		old, asked := newPod("old"), newPod("asked")
		w.start(old)
		id := w.start(asked)
		time.Sleep(10 * second)

		// An end that lies ahead comes in its time.
		w.SetScript(always(Behavior{Exits: true, ExitAfter: Latency{Min: 15 * second}, Stop: Latency{Min: 20 * second}}))
		time.Sleep(4 * second)
		w.wantState(old, pod.ContainerRunning)
		go w.StopContainer(w.Context(), id, 30*second)
		synctest.Wait()

		// And it can be called off, but for what was asked to end already.
		w.SetScript(nil)
		time.Sleep(time.Hour)
		w.wantState(old, pod.ContainerRunning)
		if c := w.container(asked); c.FinishedAt.Sub(c.StartedAt) != 15*second {
			t.Errorf("what was asked to end: %+v", c)
		}

		// An end that lies behind comes now.
		w.SetScript(always(Behavior{OOMAfter: second}))
		synctest.Wait()
		if c := w.container(old); c.Reason != "OOMKilled" || !c.FinishedAt.Equal(time.Now()) {
			t.Errorf("%+v", c)
		}
	})
}

func TestKill(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		uid := pod.UID(p.UID)
		if err := w.KillContainer(uid, "c", 137, "OOMKilled"); !podruntime.IsNotFound(err) {
			t.Errorf("killing what does not run: %v", err)
		}
		if err := w.KillSandbox(uid); !podruntime.IsNotFound(err) {
			t.Errorf("killing what does not run: %v", err)
		}
		w.start(p)
		w.ok(w.KillContainer(uid, "c", 137, "OOMKilled"))
		if c := w.container(p); c.State != pod.ContainerExited || c.ExitCode != 137 || c.Reason != "OOMKilled" {
			t.Errorf("%+v", c)
		}
		id := w.create(p, w.observed(p).Sandboxes[0].ID, 1)
		w.ok(w.KillSandbox(uid))
		if s := w.observed(p).Sandboxes[0]; s.Ready {
			t.Errorf("%+v", s)
		}
		// The agent cannot know that yet.
		if err := w.StartContainer(w.Context(), id); err == nil {
			t.Error("a container was started in a dead sandbox")
		}
		if v := w.Violations(); len(v) > 0 {
			t.Errorf("violations: %q", v)
		}
	})
}

func TestViolations(t *testing.T) {
	for name, commit := range map[string]func(w *world, p *v1.Pod){
		"a container runs twice": func(w *world, p *v1.Pod) {
			w.start(p)
			w.ok(w.StartContainer(context.Background(), w.create(p, w.observed(p).Sandboxes[0].ID, 1)))
		},
		"two sandboxes are ready": func(w *world, p *v1.Pod) {
			w.sandbox(p, 0)
			w.sandbox(p, 1)
		},
		"a container is started in a stopped sandbox": func(w *world, p *v1.Pod) {
			sandbox := w.sandbox(p, 0)
			id := w.create(p, sandbox, 0)
			w.ok(w.StopSandbox(context.Background(), sandbox))
			if w.StartContainer(context.Background(), id) == nil {
				w.Error("it was started")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, Behavior{}, func(w *world) {
				commit(w, newPod("p"))
				if v := w.Violations(); len(v) != 1 {
					t.Errorf("violations: %q", v)
				}
			})
		})
	}
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		id := w.start(p)
		for attempt := range uint32(3) {
			w.ok(w.StopContainer(w.Context(), id, second))
			sandbox := w.observed(p).Sandboxes[0].ID
			if attempt == 2 {
				w.ok(w.StopSandbox(w.Context(), sandbox))
				sandbox = w.sandbox(p, 1)
			}
			id = w.create(p, sandbox, attempt+1)
			w.ok(w.StartContainer(w.Context(), id))
		}
		if v := w.Violations(); len(v) > 0 {
			t.Errorf("an orderly life is said to violate: %q", v)
		}
	})
}
