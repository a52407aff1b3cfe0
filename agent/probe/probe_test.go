package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

const unknown, success, failure = pod.ResultUnknown, pod.ResultSuccess, pod.ResultFailure

func readiness(c *v1.Container) { c.ReadinessProbe = httpProbe() }

func TestThresholds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Readiness] = []answer{bad, bad, good, good, bad, good, bad, bad, bad, good}
		w.Sync(object("u", func(c *v1.Container) {
			readiness(c)
			c.ReadinessProbe.SuccessThreshold = 2
			c.ReadinessProbe.InitialDelaySeconds = 3
		}), running("1"))
		w.after(0)
		w.wantAsked(pod.Readiness)
		for _, step := range []struct {
			at      time.Duration
			result  pod.Result
			changed int
		}{
			{4, unknown, 0}, {14, unknown, 0}, // bad, bad
			{24, unknown, 0}, {34, success, 1}, // good, good
			{44, success, 1}, {54, success, 1}, // bad, good
			{64, success, 1}, {74, success, 1}, {84, failure, 2}, // bad three times
			{94, failure, 2}, {104, success, 3}, {114, success, 3}, // good for ever
		} {
			w.after(step.at*time.Second - time.Since(w.start))
			w.wantResults("1", unknown, unknown, step.result)
			if w.dirty() != step.changed {
				t.Errorf("%d s: marked dirty %d times, want %d", step.at, w.dirty(), step.changed)
			}
		}
		w.wantAsked(pod.Readiness, 3, 13, 23, 33, 43, 53, 63, 73, 83, 93, 103, 113)
		want := slices.Repeat([]string{"Warning Unhealthy spec.containers{a} Readiness probe failed: bad"}, 6)
		w.wantEvents(want...)
		if m := w.Results("u")["a"].Message; m != "bad" {
			t.Errorf("message %q", m)
		}
	})
}

// TestStartupFirst: the others wait until the startup probe has passed, and it
// ends with that.
func TestStartupFirst(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Startup] = []answer{bad, good}
		w.Sync(object("u", func(c *v1.Container) {
			c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = httpProbe(), httpProbe(), httpProbe()
			c.LivenessProbe.InitialDelaySeconds = 15
		}), running("1"))
		w.after(5 * time.Second)
		w.wantResults("1", unknown, unknown, unknown)
		w.after(6 * time.Second)
		w.wantResults("1", success, unknown, success)
		w.after(20 * time.Second)
		w.wantResults("1", success, success, success)
		w.wantAsked(pod.Startup, 0, 10)
		w.wantAsked(pod.Readiness, 10, 20, 30)
		w.wantAsked(pod.Liveness, 15, 25)
	})
}

// TestFailedForGood: a container that is to be killed for its probe is not
// probed until a new incarnation runs, of which nothing is known.
func TestFailedForGood(t *testing.T) {
	for _, kind := range []pod.ProbeKind{pod.Liveness, pod.Startup} {
		t.Run(string(kind), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answers[kind] = []answer{bad, bad, bad, good}
				p := object("u", func(c *v1.Container) {
					if kind == pod.Startup {
						c.StartupProbe = httpProbe()
					} else {
						c.LivenessProbe = httpProbe()
					}
				})
				w.Sync(p, running("1"))
				w.after(time.Minute)
				w.wantAsked(kind, 0, 10, 20)
				if w.dirty() != 1 {
					t.Errorf("marked dirty %d times", w.dirty())
				}
				r := w.Results("u").Of("a", "1")
				if max(r.Liveness, r.Startup) != failure {
					t.Errorf("results %+v", r)
				}
				w.Sync(p, seen("1", pod.ContainerExited, w.start))
				w.after(time.Minute)
				w.Sync(p, running("2"))
				w.wantResults("2", unknown, unknown, unknown)
				w.after(time.Second)
				w.wantAsked(kind, 0, 10, 20, 120)
			})
		})
	}
}

// TestRestart: a new incarnation begins with nothing, its counts included.
func TestRestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Readiness] = []answer{good, bad, bad, bad, bad, good}
		p := object("u", readiness)
		w.Sync(p, running("1"))
		w.after(21 * time.Second)
		w.wantResults("1", unknown, unknown, success)
		w.Sync(p, running("2"))
		w.wantResults("1", unknown, unknown, unknown)
		w.wantResults("2", unknown, unknown, unknown)
		w.after(11 * time.Second)
		// Two bad ones of each incarnation are not three.
		w.wantResults("2", unknown, unknown, unknown)
		w.after(10 * time.Second)
		w.wantResults("2", unknown, unknown, success)
		w.wantAsked(pod.Readiness, 0, 10, 20, 21, 31, 41)
	})
}

// TestPublished: a new agent knows from the pod's status what the probes of this
// incarnation have said, and finds out by itself what does not hold any more.
func TestPublished(t *testing.T) {
	yes := true
	for _, test := range []struct {
		name   string
		status v1.ContainerStatus
		want   [2]pod.Result
	}{
		{"ready", v1.ContainerStatus{ContainerID: "docker://1", Started: &yes, Ready: true}, [2]pod.Result{success, success}},
		{"started", v1.ContainerStatus{ContainerID: "docker://1", Started: &yes}, [2]pod.Result{success, unknown}},
		{"another incarnation", v1.ContainerStatus{ContainerID: "docker://0", Started: &yes, Ready: true}, [2]pod.Result{unknown, unknown}},
		{"nothing", v1.ContainerStatus{}, [2]pod.Result{unknown, unknown}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.answers[pod.Readiness], w.answers[pod.Startup] = []answer{bad}, []answer{bad}
				p := object("u", func(c *v1.Container) {
					c.StartupProbe, c.ReadinessProbe = httpProbe(), httpProbe()
				})
				test.status.Name, test.status.State.Running = p.Spec.Containers[0].Name, &v1.ContainerStateRunning{}
				p.Status.ContainerStatuses = []v1.ContainerStatus{test.status}
				w.Sync(p, running("1"))
				w.wantResults("1", test.want[0], unknown, test.want[1])
				w.after(31 * time.Second)
				if test.want[0] == success {
					// It is not asked whether it has started; that it is not ready is found.
					w.wantResults("1", success, unknown, pod.ResultFailure)
					w.wantAsked(pod.Startup)
				}
			})
		})
	}
}

// TestObserved: only what runs is probed; what cannot be seen is left as it was.
func TestObserved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := object("u", readiness)
		for _, s := range []pod.ContainerState{pod.ContainerCreated, pod.ContainerExited, pod.ContainerUnknown} {
			w.Sync(p, seen("1", s, time.Time{}))
		}
		w.Sync(p, pod.Observed{})
		w.after(time.Minute)
		w.wantAsked(pod.Readiness)
		w.Sync(p, running("1"))
		w.after(time.Second)
		w.Sync(p, seen("1", pod.ContainerUnknown, w.start))
		w.after(10 * time.Second)
		w.wantResults("1", unknown, unknown, success)
		w.Sync(p, seen("1", pod.ContainerExited, w.start))
		w.after(time.Minute)
		w.wantAsked(pod.Readiness, 60, 70)
	})
}

func TestForget(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Readiness] = []answer{{takes: 500 * time.Millisecond}}
		w.Sync(object("u", readiness), running("1"))
		w.after(100 * time.Millisecond)
		// One is under way: nobody hears what it finds.
		w.Forget("u")
		w.Forget("nobody")
		w.after(time.Minute)
		w.wantAsked(pod.Readiness, 0)
		w.wantEvents()
		if w.dirty() != 0 || w.Results("u") != nil || len(w.pods) != 0 || len(w.due) != 0 {
			t.Errorf("changed %d, results %v, %d pods and %d probes left", w.dirty(), w.Results("u"), len(w.pods), len(w.due))
		}
	})
}

// TestDeleted: a pod that is being deleted is still asked whether it is ready,
// and nothing that would restart it.
func TestDeleted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := object("u", func(c *v1.Container) { c.LivenessProbe, c.ReadinessProbe = httpProbe(), httpProbe() })
		w.Sync(p, running("1"))
		w.after(time.Second)
		deleted := p.DeepCopy()
		deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		w.Sync(deleted, seen("1", pod.ContainerRunning, w.start))
		w.after(20 * time.Second)
		w.wantAsked(pod.Liveness, 0)
		w.wantAsked(pod.Readiness, 0, 10, 20)
	})
}

func TestTimeout(t *testing.T) {
	t.Run("network", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answers[pod.Readiness] = []answer{{ok: true, takes: time.Hour}}
			w.Sync(object("u", readiness), running("1"))
			w.after(25 * time.Second)
			w.wantResults("1", unknown, unknown, failure)
			w.wantAsked(pod.Readiness, 0, 10, 20)
			want := "Warning Unhealthy spec.containers{a} Readiness probe failed: asking: context deadline exceeded"
			w.wantEvents(want, want, want)
		})
	})
	t.Run("exec", func(t *testing.T) {
		inWorld(t, func(t *testing.T, w *world) {
			w.answers[pod.Liveness] = []answer{{ok: true, takes: time.Hour}}
			w.Sync(object("u", func(c *v1.Container) {
				c.LivenessProbe = &v1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 2,
					ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "/x"}}}}
			}), running("1"))
			w.after(20 * time.Second)
			// A probe that takes longer than its period follows upon itself.
			w.wantAsked(pod.Liveness, 0, 5)
			w.wantResults("1", unknown, failure, unknown)
			want := `Warning Unhealthy spec.containers{a} Liveness probe failed: command timed out: "cat /x" timed out after 5s`
			w.wantEvents(want, want)
		})
	})
}

func TestExec(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Liveness] = []answer{good, {output: "cat: can't open"}}
		w.Sync(object("u", func(c *v1.Container) {
			c.Env = []v1.EnvVar{{Name: "F", Value: "old"}, {Name: "F", Value: "/f"}}
			c.LivenessProbe = &v1.Probe{PeriodSeconds: 10, FailureThreshold: 1,
				ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: []string{"cat", "$(F)"}}}}
		}), running("1"))
		w.after(5 * time.Second)
		w.wantResults("1", unknown, success, unknown)
		w.after(6 * time.Second)
		w.wantResults("1", unknown, failure, unknown)
		w.wantEvents("Warning Unhealthy spec.containers{a} Liveness probe failed: cat: can't open")
		w.mu.Lock()
		defer w.mu.Unlock()
		if want := []string{"cat", "/f"}; !slices.Equal(w.commands[0], want) {
			t.Errorf("ran %q, want %q", w.commands[0], want)
		}
	})
}

// TestErrors: a probe that cannot be made is tried three times, and then counts
// neither for nor against the container.
func TestErrors(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		broken := answer{err: errors.New("no route")}
		w.answers[pod.Readiness] = []answer{good, broken, broken, broken, broken, bad, bad, broken, good}
		w.Sync(object("u", readiness), running("1"))
		w.after(45 * time.Second)
		w.wantAsked(pod.Readiness, 0, 10, 10, 10, 20, 20, 30, 40, 40)
		w.wantResults("1", unknown, unknown, success)
		w.wantEvents(
			"Warning Unhealthy spec.containers{a} Readiness probe errored and resulted in unknown state: no route",
			"Warning Unhealthy spec.containers{a} Readiness probe failed: bad",
			"Warning Unhealthy spec.containers{a} Readiness probe failed: bad")
	})
}

func TestWarning(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Readiness] = []answer{{ok: true, err: Warning("redirected")}}
		w.Sync(object("u", readiness), running("1"))
		w.after(time.Second)
		w.wantAsked(pod.Readiness, 0)
		w.wantResults("1", unknown, unknown, success)
		w.wantEvents("Warning ProbeWarning spec.containers{a} Readiness probe warning: redirected")
	})
}

// TestSidecar: init containers are probed as well.
func TestSidecar(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		p := object("u", func(*v1.Container) {})
		p.Spec.InitContainers = []v1.Container{{Name: "side", StartupProbe: httpProbe()}}
		o := running("1")
		o.Containers[0].Name = "side"
		w.Sync(p, o)
		w.after(time.Second)
		if r := w.Results("u").Of("side", "1"); r.Startup != success {
			t.Errorf("results %+v", r)
		}
	})
}

// TestSpread: containers that ran before the agent are not all probed at once,
// and new ones are probed at once.
func TestSpread(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for i := range 100 {
			w.Sync(object(fmt.Sprint("old", i), readiness), seen("1", pod.ContainerRunning, w.start.Add(-time.Hour)))
		}
		w.after(10 * time.Second)
		perSecond := map[time.Duration]int{}
		for _, at := range w.times(pod.Readiness) {
			perSecond[at/time.Second]++
		}
		if len(w.times(pod.Readiness)) != 100 || len(perSecond) < 8 {
			t.Errorf("%d probes in the first period, by second: %v", len(w.times(pod.Readiness)), perSecond)
		}
	})
}

// TestMany: a thousand pods with three probes each, for ten minutes.
func TestMany(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.answers[pod.Liveness] = []answer{{ok: true, takes: 10 * time.Millisecond}}
		const pods = manyPods
		for i := range pods {
			w.Sync(object(fmt.Sprint(i), func(c *v1.Container) {
				c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = httpProbe(), httpProbe(), httpProbe()
			}), running("1"))
		}
		w.after(10 * time.Minute)
		if got := len(w.times(pod.Startup)); got != pods {
			t.Errorf("%d startup probes", got)
		}
		for _, kind := range []pod.ProbeKind{pod.Liveness, pod.Readiness} {
			// 60 periods; those that wait for a slot come a little later.
			if got := len(w.times(kind)); got < 58*pods || got > 61*pods {
				t.Errorf("%d %s probes in ten minutes", got, kind)
			}
		}
		w.mu.Lock()
		most := w.most
		w.mu.Unlock()
		if most > maxProbes {
			t.Errorf("%d probes at once", most)
		}
		if w.dirty() != 3*pods {
			t.Errorf("marked dirty %d times", w.dirty())
		}
	})
}

func TestExpand(t *testing.T) {
	env := []v1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)"}, {Name: "A", Value: "2"}}
	got := expand([]string{"x", "$(A)", "$$(A)", "$(B)", "$(C)"}, env)
	if want := []string{"x", "2", "$(A)", "$(A)", "$(C)"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func quiet() *Prober {
	return New(Deps{Rand: rand.New(rand.NewPCG(1, 2)), Changed: func(pod.UID) {}, Event: func(pod.Event) {}})
}

func TestSyncUnchangedAllocatesNothing(t *testing.T) {
	p := quiet()
	o := running("1")
	for name, object := range map[string]*v1.Pod{
		"without probes": object("u", func(*v1.Container) {}),
		"with probes":    object("v", func(c *v1.Container) { c.LivenessProbe, c.ReadinessProbe = httpProbe(), httpProbe() }),
	} {
		p.Sync(object, o)
		if n := testing.AllocsPerRun(100, func() { p.Sync(object, o) }); n != 0 {
			t.Errorf("a pod %s costs %v allocations", name, n)
		}
	}
}

func BenchmarkSyncUnchanged(b *testing.B) {
	for name, change := range map[string]func(*v1.Container){
		"none": func(*v1.Container) {},
		"three": func(c *v1.Container) {
			c.StartupProbe, c.LivenessProbe, c.ReadinessProbe = httpProbe(), httpProbe(), httpProbe()
		},
	} {
		b.Run(name, func(b *testing.B) {
			p := quiet()
			object, o := object("u", change), running("1")
			p.Sync(object, o)
			b.ReportAllocs()
			for b.Loop() {
				p.Sync(object, o)
			}
		})
	}
}
