package worker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func sleeping(seconds int64) *v1.LifecycleHandler {
	return &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: seconds}}
}

// fails is a hook that fails at once.
var fails = &v1.LifecycleHandler{Exec: &v1.ExecAction{}}

func hookedPod(postStart, preStop *v1.LifecycleHandler) *v1.Pod {
	return testPod("p", func(p *v1.Pod) {
		p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PostStart: postStart, PreStop: preStop}
	})
}

// startHooked has a pod with hooks run, its image being there.
func (w *world) startHooked(postStart, preStop *v1.LifecycleHandler) *v1.Pod {
	w.images["img"] = true
	p := hookedPod(postStart, preStop)
	w.put(p)
	synctest.Wait()
	return p
}

func (w *world) delete(p *v1.Pod, grace int64) {
	deleted := p.DeepCopy()
	now := metav1.Now()
	deleted.DeletionTimestamp, deleted.DeletionGracePeriodSeconds = &now, &grace
	w.put(deleted)
	synctest.Wait()
}

// called returns the calls since the last time, in the order of their names.
func (w *world) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return slices.Sorted(slices.Values(calls))
}

func (w *world) expectEvents(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.events, want) {
		t.Errorf("events %q, want %q", w.events, want)
	}
	w.events = nil
}

func TestPostStart(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.startHooked(sleeping(5), nil)
		w.expectEvents(t, "Pulled", "Created", "Started")
		s := w.status()
		if c := s.ContainerStatuses[0]; s.Phase != v1.PodPending || c.State.Waiting == nil || c.Ready || *c.Started {
			t.Errorf("while the hook runs: %+v", s)
		}
		if w.isProbed("a-p-0") {
			t.Error("it is probed while the hook runs")
		}
		time.Sleep(6 * time.Second)
		if s := w.status(); s.Phase != v1.PodRunning || !s.ContainerStatuses[0].Ready {
			t.Errorf("after the hook: %+v", s)
		}
		if !w.isProbed("a-p-0") {
			t.Error("it is not probed after the hook")
		}
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1")
	})
}

func TestPostStartFails(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.startHooked(fails, fails)
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1",
			"RunHook a-p-0 10.0.0.1", "StopContainer a-p-0 30s",
			// The first restart is at once, the second is backed off.
			"CreateContainer a1", "StartContainer a-p-1", "RunHook a-p-1 10.0.0.1", "RunHook a-p-1 10.0.0.1", "StopContainer a-p-1 30s",
			"RemoveContainer a-p-0")
		w.expectEvents(t, "Pulled", "Created", "Started", "FailedPostStartHook", "Killing", "FailedPreStopHook",
			"Pulled", "Created", "Started", "FailedPostStartHook", "Killing", "FailedPreStopHook", "BackOff")
		if c := w.status().ContainerStatuses[0]; c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" {
			t.Errorf("status %+v", c)
		}
		if !slices.ContainsFunc(w.published(), func(s v1.PodStatus) bool {
			waiting := s.ContainerStatuses[0].State.Waiting
			return waiting != nil && waiting.Reason == "PostStartHookError"
		}) {
			t.Error("it was not told that the hook failed")
		}
	})
}

// A pod that is deleted while a postStart hook runs waits for it no longer.
func TestDeletedInPostStart(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		p := w.startHooked(sleeping(3600), nil)
		w.delete(p, 30)
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1",
			"StopContainer a-p-0 30s", "StopSandbox s-p-0", "RemoveSandbox s-p-0")
		w.expectEvents(t, "Pulled", "Created", "Started", "Killing")
	})
}

func TestPreStopSharesTheGrace(t *testing.T) {
	for _, test := range []struct {
		name   string
		hook   *v1.LifecycleHandler
		after  time.Duration
		left   string
		events []string
	}{
		{"in time", sleeping(10), 10 * time.Second, "20s", []string{"Killing"}},
		{"the least is left", sleeping(29), 29 * time.Second, "2s", []string{"Killing"}},
		{"too long", sleeping(3600), 30 * time.Second, "2s", []string{"Killing", "FailedPreStopHook"}},
		{"fails", fails, 0, "30s", []string{"Killing", "FailedPreStopHook"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, func(t *testing.T, w *world) {
				p := w.startHooked(nil, test.hook)
				w.expectEvents(t, "Pulled", "Created", "Started")
				w.called()
				w.delete(p, 30)
				if test.after > 0 {
					time.Sleep(test.after - time.Second)
					synctest.Wait()
					if calls := w.called(); len(calls) > 1 {
						t.Errorf("it was stopped before its hook had ended: %q", calls)
					}
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if calls := w.called(); !slices.Contains(calls, "StopContainer a-p-0 "+test.left) {
					t.Errorf("calls %q, want a stop with %s left", calls, test.left)
				}
				w.expectEvents(t, test.events...)
				if len(w.finished) != 1 {
					t.Errorf("the pod is not gone: %+v", w.status())
				}
			})
		})
	}
}

// A second delete shortens the grace of a hook that runs; the hook is not run
// again.
func TestPreStopShortened(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		p := w.startHooked(nil, sleeping(3600))
		w.delete(p, 30)
		time.Sleep(5 * time.Second)
		w.delete(p, 4)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1",
			"StopContainer a-p-0 2s", "StopSandbox s-p-0", "RemoveSandbox s-p-0")
	})
}

// A hook that has no more time is ended with its container, also where the pod runs on.
func TestPreStopEndsWithItsContainer(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		p := w.startHooked(nil, sleeping(3600))
		w.expectEvents(t, "Pulled", "Created", "Started")
		w.images["img2"] = true
		changed := p.DeepCopy()
		changed.Spec.Containers[0].Image = "img2"
		w.put(changed)
		time.Sleep(40 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		want := []string{"Created", "FailedPreStopHook", "Killing", "Pulled", "Started"}
		if got := slices.Sorted(slices.Values(w.events)); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// The hooks of sidecars begin with the pod's end, and each is run once.
func TestPreStopOfSidecar(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		always := v1.ContainerRestartPolicyAlways
		p := testPod("p", func(p *v1.Pod) {
			p.Spec.Containers[0].Lifecycle = &v1.Lifecycle{PreStop: sleeping(10)}
			p.Spec.InitContainers = []v1.Container{{Name: "s", Image: "img", ImagePullPolicy: v1.PullIfNotPresent, RestartPolicy: &always,
				Lifecycle: &v1.Lifecycle{PreStop: sleeping(12)}}}
		})
		w.put(p)
		synctest.Wait()
		w.called()
		w.delete(p, 30)
		if calls := w.called(); !slices.Equal(calls, []string{"RunHook a-p-0 10.0.0.1", "RunHook s-p-0 10.0.0.1"}) {
			t.Errorf("calls %q, want both hooks", calls)
		}
		// That both are to be stopped is told now, as by the kubelet, and not once more.
		w.expectEvents(t, "Pulled", "Created", "Started", "Pulled", "Created", "Started", "Killing", "Killing")
		time.Sleep(13 * time.Second)
		// The world's containers end at once when they are stopped: a with 20 s of
		// its grace left after its hook, s with 18.
		w.expectCalls(t, "StopContainer a-p-0 20s", "StopContainer s-p-0 18s", "StopSandbox s-p-0", "RemoveSandbox s-p-0")
		w.expectEvents(t)
	})
}
