package fakeruntime

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

const second = time.Second

func TestContainerEndsAsScripted(t *testing.T) {
	for _, test := range []struct {
		name     string
		behavior Behavior
		after    time.Duration
		exitCode int32
		reason   string
		message  string
	}{
		{"completes", Behavior{Exits: true, ExitAfter: Latency{Min: 3 * second}}, 3 * second, 0, "Completed", ""},
		{"fails", Behavior{Exits: true, ExitAfter: Latency{Min: second}, ExitCode: 7, TerminationMessage: "no config"},
			second, 7, "Error", "no config"},
		{"ends at once", Behavior{Exits: true, ExitCode: 1}, 0, 1, "Error", ""},
		{"is killed for its memory", Behavior{OOMAfter: 5 * second}, 5 * second, 137, "OOMKilled", ""},
		{"is killed before it ends", Behavior{Exits: true, ExitAfter: Latency{Min: 9 * second}, OOMAfter: 5 * second},
			5 * second, 137, "OOMKilled", ""},
		{"ends before it is killed", Behavior{Exits: true, ExitAfter: Latency{Min: 2 * second}, OOMAfter: 5 * second},
			2 * second, 0, "Completed", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			play(t, test.behavior, func(w *world) {
				p := newPod("p")
				var told atomic.Int32
				w.start(p)
				defer w.Subscribe(func(uid pod.UID) {
					if uid == pod.UID(p.UID) {
						told.Add(1)
					}
				})()
				if test.after > 0 {
					time.Sleep(test.after - 1)
					w.wantState(p, pod.ContainerRunning)
					if told.Load() > 0 {
						t.Error("something was told of before it happened")
					}
					time.Sleep(time.Nanosecond)
					synctest.Wait()
					if told.Load() != 1 {
						t.Errorf("the end was told %d times", told.Load())
					}
				}
				c := w.container(p)
				if c.State != pod.ContainerExited || c.ExitCode != test.exitCode || c.Reason != test.reason ||
					c.Message != test.message || c.FinishedAt.Sub(c.StartedAt) != test.after {
					t.Errorf("after %v: %+v", c.FinishedAt.Sub(c.StartedAt), c)
				}
			})
		})
	}
}

func TestSteps(t *testing.T) {
	fixed := func(d time.Duration) Latency { return Latency{d, d} }
	b := Behavior{Sandbox: fixed(second), Pull: fixed(20 * second), Create: fixed(3 * second), Start: fixed(4 * second), Stop: fixed(5 * second)}
	play(t, b, func(w *world) {
		ctx := w.Context()
		p := newPod("p")
		var sandbox, id string
		var err error
		config := w.config(p, 0)
		for _, step := range []struct {
			name string
			do   func() error
			want time.Duration
		}{
			{"RunSandbox", func() error {
				sandbox, err = w.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p})
				return err
			}, second},
			{"RunSandbox, ready", func() error {
				_, err := w.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p})
				return err
			}, 0},
			{"CreateContainer", func() error { id, err = w.CreateContainer(ctx, sandbox, config); return err }, 3 * second},
			{"StartContainer", func() error { return w.StartContainer(ctx, id) }, 4 * second},
			{"StopContainer", func() error { return w.StopContainer(ctx, id, time.Minute) }, 5 * second},
			{"PullImage, present", func() error {
				_, err := w.PullImage(ctx, podruntime.PullRequest{Ref: "image", Pod: p}, nil)
				return err
			}, 2 * second},
			{"RemoveImage, in use", func() error {
				if w.RemoveImage(ctx, config.ImageID) == nil {
					t.Error("an image was removed from under a container")
				}
				return nil
			}, 0},
			{"RemoveSandbox", func() error { return w.RemoveSandbox(ctx, sandbox) }, 0},
			{"RemoveImage", func() error { return w.RemoveImage(ctx, config.ImageID) }, 0},
			{"PullImage", func() error {
				_, err := w.PullImage(ctx, podruntime.PullRequest{Ref: "image", Pod: p}, nil)
				return err
			}, 20 * second},
		} {
			if took := lasts(func() { err = step.do() }); err != nil || took != step.want {
				t.Errorf("%s: %v after %v, want %v", step.name, err, took, step.want)
			}
		}
	})
}

func TestScriptedErrors(t *testing.T) {
	b := Behavior{}
	script := func(*v1.Pod, *v1.Container, uint32) Behavior { return b }
	playWith(t, Options{Script: script}, func(w *world) {
		ctx, p := w.Context(), newPod("p")
		pull := func(text string) error {
			b = Behavior{PullError: text}
			_, err := w.PullImage(ctx, podruntime.PullRequest{Ref: "image", Pod: p}, nil)
			return err
		}
		for text, kind := range map[string]error{
			"manifest unknown":                    podruntime.ErrImagePull,
			"RegistryUnavailable: no route":       podruntime.ErrRegistryUnavailable,
			"InvalidImageName: not to its liking": podruntime.ErrInvalidImageName,
		} {
			if err := pull(text); !errors.Is(err, kind) || err.Error() != text {
				t.Errorf("pull error %q: %v", text, err)
			}
		}
		b = Behavior{SandboxError: "no network"}
		if _, err := w.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p}); err == nil || !strings.Contains(err.Error(), "no network") {
			t.Errorf("sandbox: %v", err)
		}
		if o := w.observed(p); !o.Empty() {
			t.Errorf("a failed sandbox left %+v", o)
		}
		b = Behavior{}
		sandbox := w.sandbox(p, 0)
		b = Behavior{CreateError: "no space"}
		if _, err := w.CreateContainer(ctx, sandbox, w.config(p, 0)); err == nil || !strings.Contains(err.Error(), "no space") {
			t.Errorf("create: %v", err)
		}
		b = Behavior{StartError: "no such file"}
		id := w.create(p, sandbox, 0)
		if err := w.StartContainer(ctx, id); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("start: %v", err)
		}
		if c := w.container(p); c.State != pod.ContainerExited || c.Reason != "ContainerCannotRun" || c.Message != "no such file" {
			t.Errorf("after a failed start: %+v", c)
		}
		for message, want := range map[string]int32{"exec: \"x\": executable file not found in $PATH": 127,
			"exec: \"/x\": stat /x: no such file or directory": 127, "exec: \"/x\": permission denied": 126, "no": 128} {
			if got := startErrorCode(message); got != want {
				t.Errorf("exit code %d after %q, want %d as with Docker", got, message, want)
			}
		}
	})
}

// What a caller has set in motion goes on without it, as it does in a daemon.
func TestOperationsOutliveTheirCallers(t *testing.T) {
	fixed := Latency{2 * second, 2 * second}
	play(t, Behavior{Sandbox: fixed, Create: fixed, Start: fixed}, func(w *world) {
		p := newPod("p")
		gone := func(what string, f func(ctx context.Context) error) {
			ctx, cancel := context.WithTimeout(w.Context(), second)
			defer cancel()
			var err error
			if took := lasts(func() { err = f(ctx) }); !errors.Is(err, context.DeadlineExceeded) || took != second {
				t.Errorf("%s: %v after %v", what, err, took)
			}
			time.Sleep(second)
		}
		gone("RunSandbox", func(ctx context.Context) error {
			_, err := w.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p})
			return err
		})
		o := w.observed(p)
		if len(o.Sandboxes) != 1 || !o.Sandboxes[0].Ready {
			t.Fatalf("sandboxes %+v", o.Sandboxes)
		}
		config := w.config(p, 0)
		gone("CreateContainer", func(ctx context.Context) error {
			_, err := w.CreateContainer(ctx, o.Sandboxes[0].ID, config)
			return err
		})
		w.wantState(p, pod.ContainerCreated)
		id := w.container(p).ID
		gone("StartContainer", func(ctx context.Context) error { return w.StartContainer(ctx, id) })
		w.wantState(p, pod.ContainerRunning)
	})
}

func TestStopWhileStarting(t *testing.T) {
	play(t, Behavior{Start: Latency{Min: 2 * second}}, func(w *world) {
		p := newPod("p")
		id := w.create(p, w.sandbox(p, 0), 0)
		result := make(chan error)
		go func() { result <- w.StartContainer(w.Context(), id) }()
		time.Sleep(second)
		w.ok(w.StopContainer(w.Context(), id, 30*second))
		if err := <-result; err == nil {
			t.Error("the start succeeded")
		}
		w.wantState(p, pod.ContainerExited)
	})
}

func TestStopExitCode(t *testing.T) {
	play(t, Behavior{Stop: Latency{Min: second}, StopExitCode: 143}, func(w *world) {
		p := newPod("p")
		id := w.start(p)
		if took := lasts(func() { w.ok(w.StopContainer(w.Context(), id, 30*second)) }); took != second {
			t.Errorf("it took %v", took)
		}
		if c := w.container(p); c.ExitCode != 143 || c.Reason != "Error" {
			t.Errorf("%+v", c)
		}
	})
	// A container that is about to end by itself does not wait to be asked.
	play(t, Behavior{Stop: Latency{Min: 9 * second}, Exits: true, ExitAfter: Latency{Min: 4 * second}, ExitCode: 5}, func(w *world) {
		p := newPod("p")
		id := w.start(p)
		time.Sleep(second)
		if took := lasts(func() { w.ok(w.StopContainer(w.Context(), id, 30*second)) }); took != 3*second {
			t.Errorf("it took %v", took)
		}
		if c := w.container(p); c.ExitCode != 5 {
			t.Errorf("%+v", c)
		}
	})
	// Without grace nothing is asked.
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		w.ok(w.StopContainer(w.Context(), w.start(p), 0))
		if c := w.container(p); c.ExitCode != 137 {
			t.Errorf("%+v", c)
		}
	})
}

func TestUpdateOfTheEnded(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		id := w.start(newPod("p"))
		w.ok(w.UpdateContainer(w.Context(), id, v1.ResourceRequirements{}))
		w.ok(w.StopContainer(w.Context(), id, 0))
		if err := w.UpdateContainer(w.Context(), id, v1.ResourceRequirements{}); err == nil {
			t.Error("a container that has ended was updated")
		}
	})
}

// However late somebody looks, what has happened is told with its own time.
func TestLateLook(t *testing.T) {
	play(t, Behavior{Exits: true, ExitAfter: Latency{Min: second}}, func(w *world) {
		p := newPod("p")
		w.start(p)
		w.mu.Lock()
		w.advance(time.Now().Add(time.Hour))
		w.mu.Unlock()
		if c := w.container(p); c.FinishedAt.Sub(c.StartedAt) != second {
			t.Errorf("%+v", c)
		}
	})
}
