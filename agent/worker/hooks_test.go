package worker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func sleep(seconds int64) *v1.LifecycleHandler {
	return &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: seconds}}
}

// hooked is a pod of two containers, of which the first has hooks.
func hooked(lifecycle v1.Lifecycle, grace int64) *v1.Pod {
	return testPod("p", func(p *v1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = &grace
		p.Spec.Containers[0].Lifecycle = &lifecycle
		p.Spec.Containers = append(p.Spec.Containers, v1.Container{Name: "b", Image: "img", ImagePullPolicy: v1.PullIfNotPresent})
	})
}

// takeCalls are the calls since it was last asked.
func (w *world) takeCalls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

func (w *world) hasEvent(reason string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events, func(e string) bool { return strings.Contains(e, reason) })
}

// The next container starts when the hook of the one before has ended.
func TestPostStart(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.put(hooked(v1.Lifecycle{PostStart: sleep(10)}, 30))
		time.Sleep(9 * time.Second)
		if got, want := w.takeCalls(), []string{"RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1"}; !slices.Equal(got, want) {
			t.Errorf("calls %q, want %q", got, want)
		}
		time.Sleep(2 * time.Second)
		if got, want := w.takeCalls(), []string{"CreateContainer b0", "StartContainer b-p-0"}; !slices.Equal(got, want) {
			t.Errorf("then calls %q, want %q", got, want)
		}
	})
}

// A container whose hook fails is ended, with its other hook.
func TestPostStartFails(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.setFailure("RunHook", errors.New("secret"))
		w.put(hooked(v1.Lifecycle{PostStart: sleep(1), PreStop: sleep(4)}, 30))
		time.Sleep(6 * time.Second)
		got := w.takeCalls()
		want := []string{"RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0", "RunHook a-p-0 10.0.0.1", "RunHook a-p-0 10.0.0.1", "StopContainer a-p-0 26s"}
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("calls %q, want %q", got, want)
		}
		for _, reason := range []string{eventFailedPostStart, eventFailedPreStop} {
			if !w.hasEvent(reason) {
				t.Errorf("no event %s among %q", reason, w.events)
			}
		}
		if w.hasEvent("secret") {
			t.Errorf("the events tell why: %q", w.events)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if s := w.set[len(w.set)-1].ContainerStatuses[0].State.Waiting; s == nil || s.Reason != "PostStartHookError" || s.Message != "secret" {
			t.Errorf("the container waits for %+v", s)
		}
	})
}

// What a preStop hook takes, the container has not.
func TestPreStop(t *testing.T) {
	for _, test := range []struct {
		hook, grace int64
		want        []string
		after       time.Duration
	}{
		{10, 30, []string{"RunHook a-p-0 10.0.0.1", "StopContainer b-p-0 30s", "StopContainer a-p-0 20s"}, 10 * time.Second},
		{29, 30, []string{"RunHook a-p-0 10.0.0.1", "StopContainer b-p-0 30s", "StopContainer a-p-0 2s"}, 29 * time.Second},
		{100, 30, []string{"RunHook a-p-0 10.0.0.1", "StopContainer b-p-0 30s", "StopContainer a-p-0 2s"}, 30 * time.Second},
		{10, 0, []string{"RunHook a-p-0 10.0.0.1", "StopContainer b-p-0 2s", "StopContainer a-p-0 2s"}, time.Second},
	} {
		play(t, func(t *testing.T, w *world) {
			w.images["img"] = true
			p := hooked(v1.Lifecycle{PreStop: sleep(test.hook)}, test.grace)
			w.put(p)
			synctest.Wait()
			w.takeCalls()
			d := p.DeepCopy()
			now := metav1.Now()
			d.DeletionTimestamp, d.DeletionGracePeriodSeconds = &now, &test.grace
			w.put(d)
			var got []string
			for range test.after / time.Second {
				synctest.Wait()
				got = append(got, w.takeCalls()...)
				if slices.Contains(got, test.want[len(test.want)-1]) {
					t.Errorf("hook %d s, grace %d s: the container was stopped early", test.hook, test.grace)
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			got = append(got, w.takeCalls()...)[:len(test.want)]
			slices.Sort(got)
			slices.Sort(test.want)
			if !slices.Equal(got, test.want) {
				t.Errorf("hook %d s, grace %d s: calls %q, want %q", test.hook, test.grace, got, test.want)
			}
		})
	}
}
