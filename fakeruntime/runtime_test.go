package fakeruntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Many containers cost no goroutine and one timer.
func TestRunningContainersAreIdle(t *testing.T) {
	play(t, Behavior{Exits: true, ExitAfter: Latency{time.Hour, 2 * time.Hour}}, func(w *world) {
		before := runtime.NumGoroutine()
		for i := range 500 {
			w.start(newPod(fmt.Sprint(i)))
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before+3 {
			t.Errorf("%d goroutines before, %d with 500 containers", before, after)
		}
		if n := w.ahead(); n != 500 {
			t.Errorf("%d happenings ahead", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := w.ahead(); n != 0 {
			t.Errorf("%d happenings ahead", n)
		}
		if u := w.Usage(); len(u) > 0 {
			t.Errorf("%d pods run on", len(u))
		}
	})
}

// What is called off leaves nothing behind.
func TestRemovedContainersLeaveNoHappening(t *testing.T) {
	play(t, Behavior{OOMAfter: 24 * time.Hour}, func(w *world) {
		for i := range 50 {
			p := newPod(fmt.Sprint(i))
			w.start(p)
			id := w.container(p).ID
			if i%2 == 0 {
				w.ok(w.RemoveContainer(w.Context(), id))
			}
			w.ok(w.RemoveSandbox(w.Context(), w.observed(p).Sandboxes[0].ID))
		}
		if n := w.ahead(); n > 0 {
			t.Errorf("%d happenings ahead", n)
		}
		if len(w.pods)+len(w.sandboxes)+len(w.containers) > 0 {
			t.Errorf("left: %d pods, %d sandboxes, %d containers", len(w.pods), len(w.sandboxes), len(w.containers))
		}
	})
}

// Two runs with one seed are alike, whatever the order in which pods come.
func TestSeed(t *testing.T) {
	run := func(seed uint64, order []string) map[string]time.Duration {
		took := map[string]time.Duration{}
		options := Options{Rand: rand.New(rand.NewPCG(seed, 0)),
			Script: always(Behavior{Start: Latency{second, 9 * second}, Exits: true, ExitAfter: Latency{0, time.Hour}})}
		playWith(t, options, func(w *world) {
			for _, name := range order {
				p := newPod(name)
				took[name] = lasts(func() { w.start(p) })
				if took[name] < second || took[name] > 9*second {
					t.Errorf("the start of %s took %v", name, took[name])
				}
				time.Sleep(time.Hour)
				c := w.container(p)
				took[name+" ends"] = c.FinishedAt.Sub(c.StartedAt)
			}
		})
		return took
	}
	names := []string{"a", "b", "c", "d"}
	first := run(1, names)
	slices.Reverse(names)
	if again := run(1, names); !reflect.DeepEqual(again, first) {
		t.Errorf("the same seed gave\n%v\n%v", first, again)
	}
	if other := run(2, names); reflect.DeepEqual(other, first) {
		t.Errorf("another seed gave the same %v", first)
	}
	if first["a"] == first["b"] {
		t.Errorf("two pods take the same time: %v", first)
	}
}

func TestIDsDifferBetweenNodes(t *testing.T) {
	playWith(t, Options{Rand: rand.New(rand.NewPCG(1, 0))}, func(w *world) {
		other := &world{w.T, New(Options{Rand: rand.New(rand.NewPCG(2, 0))})}
		if a, b := w.start(newPod("p")), other.start(newPod("p")); a == b || len(a) != 64 {
			t.Errorf("containers %s and %s", a, b)
		}
	})
}

// A call that waits for a container to end is not left waiting when it is
// removed.
func TestRemoveEndsTheWait(t *testing.T) {
	play(t, Behavior{IgnoreSIGTERM: true}, func(w *world) {
		id := w.start(newPod("p"))
		go func() {
			time.Sleep(second)
			w.ok(w.RemoveContainer(w.Context(), id))
		}()
		if took := lasts(func() { w.ok(w.StopContainer(w.Context(), id, time.Minute)) }); took != second {
			t.Errorf("it waited for %v", took)
		}
	})
}

func TestImagesAreListedLargestFirst(t *testing.T) {
	playWith(t, Options{Images: []string{"a", "b", "c", "d", "e", "f"}}, func(w *world) {
		all, err := w.ListImages(w.Context())
		w.ok(err)
		if len(all) != 6 || !slices.IsSortedFunc(all, func(a, b podruntime.Image) int { return cmp.Compare(b.Size, a.Size) }) {
			t.Errorf("%+v", all)
		}
	})
}

func TestImagesFromTheStart(t *testing.T) {
	playWith(t, Options{Images: []string{"busybox", "registry.example/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}, func(w *world) {
		image, err := w.Image(w.Context(), "docker.io/library/busybox:latest")
		w.ok(err)
		if want := []string{"docker.io/library/busybox:latest", "docker.io/library/busybox@" + image.ID}; !slices.Equal(image.Names, want) {
			t.Errorf("names %q", image.Names)
		}
		all, err := w.ListImages(w.Context())
		w.ok(err)
		if len(all) != 2 {
			t.Errorf("%+v", all)
		}
	})
}

// Several callers do anything at all at once; the checks are the race
// detector's and those of sound.
func TestAnythingAtOnce(t *testing.T) {
	b := DefaultBehavior()
	b.Exits, b.ExitAfter = true, Latency{0, 2 * second}
	play(t, b, func(w *world) {
		var callers sync.WaitGroup
		for n := range 6 {
			callers.Go(func() {
				source := rand.New(rand.NewPCG(uint64(n), 1))
				for range 300 {
					w.anything(source)
					w.sound()
				}
			})
		}
		callers.Wait()
		// What was set in motion still comes.
		time.Sleep(second)
		for i := range 4 {
			for _, s := range w.observed(newPod(fmt.Sprint(i))).Sandboxes {
				w.ok(w.RemoveSandbox(w.Context(), s.ID))
			}
		}
		time.Sleep(time.Minute)
		w.sound()
		if len(w.pods)+w.ahead() > 0 {
			t.Errorf("in the end there are %d pods and %d happenings", len(w.pods), w.ahead())
		}
	})
}

// anything makes one random call. Its outcome is of no interest.
func (w *world) anything(source *rand.Rand) {
	ctx, cancel := context.WithTimeout(w.Context(), time.Duration(source.Int64N(int64(300*time.Millisecond))))
	defer cancel()
	p := newPod(fmt.Sprint(source.IntN(4)))
	attempt := uint32(source.IntN(3))
	o, _ := w.InspectPod(w.Context(), pod.UID(p.UID))
	sandbox, id := "none", "none"
	if n := len(o.Sandboxes); n > 0 {
		sandbox = o.Sandboxes[source.IntN(n)].ID
	}
	if n := len(o.Containers); n > 0 {
		id = o.Containers[source.IntN(n)].ID
	}
	switch source.IntN(20) {
	case 0:
		w.PowerOff()
		time.Sleep(time.Duration(source.IntN(1000)))
		w.PowerOn()
	case 1:
		w.RemoveSandbox(ctx, sandbox)
	case 2:
		w.StopSandbox(ctx, sandbox)
	case 3:
		w.RemoveContainer(ctx, id)
	case 4, 5:
		w.StopContainer(ctx, id, time.Duration(source.IntN(100))*time.Millisecond)
	case 6:
		w.SetScript(always(Behavior{OOMAfter: time.Duration(source.IntN(3)) * second}))
	case 7:
		w.SetScript(nil)
	case 8:
		w.KillContainer(o.UID, "c", 1, "Error")
	case 9, 10, 11, 12:
		w.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p, Attempt: attempt})
	case 13, 14, 15, 16:
		w.CreateContainer(ctx, sandbox, w.config(p, attempt))
	default:
		w.StartContainer(ctx, id)
	}
}

// sound checks that the parts of the state agree.
func (w *world) sound() {
	w.lock()
	defer w.unlock()
	sandboxes, containers, running := 0, 0, 0
	for uid, p := range w.pods {
		sandboxes += len(p.sandboxes)
		containers += len(p.containers)
		if uid != p.uid || len(p.sandboxes)+len(p.containers) == 0 {
			w.Errorf("pod %s is %+v", uid, p)
		}
		for _, c := range p.containers {
			ends := c.State == pod.ContainerRunning
			if ends {
				running++
			}
			if w.containers[c.ID] != c || w.sandboxes[c.SandboxID] != c.sandbox ||
				ends && !c.sandbox.Ready || !ends && (c.ending != nil || c.exited != nil) {
				w.Errorf("container %+v", c)
			}
		}
		for _, s := range p.sandboxes {
			if w.sandboxes[s.ID] != s || s.Ready != s.ip.IsValid() || s.Ready != (len(s.IPs) == 1) {
				w.Errorf("sandbox %+v", s)
			}
		}
	}
	if sandboxes != len(w.sandboxes) || containers != len(w.containers) {
		w.Errorf("%d of %d sandboxes and %d of %d containers belong to pods",
			sandboxes, len(w.sandboxes), containers, len(w.containers))
	}
	if w.off && (running > 0 || len(w.timeline.queue) > 0) {
		w.Errorf("without power %d containers run and %d things are to happen", running, len(w.timeline.queue))
	}
	for i, h := range w.timeline.queue {
		if h.index != i || h.at.Before(w.now) {
			w.Errorf("happening %d is at %d, due %v", i, h.index, h.at)
		}
	}
}

func TestCallsSayWhatTheyWereAbout(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		w.PowerOff()
		p := newPod("p")
		_, err := w.RunSandbox(w.Context(), podruntime.SandboxConfig{Pod: p, Attempt: 3})
		if !errors.Is(err, errPowerOff) || err.Error() != "running sandbox 3 of pod ns/p: the machine has no power" {
			t.Error(err)
		}
	})
}
