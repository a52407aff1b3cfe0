package podruntimetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

var streamRules = []rule{
	{"ExecExitCodes", execExitCodes},
	{"ExecPrints", execPrints},
	{"ExecIsCutOff", execCutOff},
	{"ExecNeedsARunningContainer", execNeedsRunning},
	{"Logs", logs},
	{"LogsFollow", logsFollow},
	{"LogsOfTheEnded", logsOfEnded},
	{"AttachEndsWithTheContainer", attachEnds},
	{"PortForwardCloses", portForwardCloses},
}

func execExitCodes(w *world) {
	id := w.start(w.Server)
	for _, want := range []int{0, 1, 42} {
		got, err := w.Runtime.Exec(w.ctx, id, podruntime.ExecOptions{Command: w.ExecExits(want)})
		if err != nil || got != want {
			w.Errorf("%q: exit code %d, error %v; want %d", w.ExecExits(want), got, err, want)
		}
	}
}

func execPrints(w *world) {
	id := w.start(w.Server)
	var out bytes.Buffer
	_, err := w.Runtime.Exec(w.ctx, id, podruntime.ExecOptions{Command: w.ExecPrints("hello"),
		StreamOptions: podruntime.StreamOptions{Stdout: &out}})
	w.ok(err)
	if got := strings.TrimSpace(out.String()); got != "hello" {
		w.Errorf("it printed %q", got)
	}
}

func execCutOff(w *world) {
	id := w.start(w.Server)
	ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
	defer cancel()
	err := w.within("Exec", async(func() error {
		_, err := w.Runtime.Exec(ctx, id, podruntime.ExecOptions{Command: w.ExecBlocks})
		return err
	}))
	if !errors.Is(err, context.DeadlineExceeded) {
		w.Errorf("a command that was cut off: %v, want that the deadline has passed", err)
	}
	if got := w.state(id); got != pod.ContainerRunning {
		w.Errorf("the container of a command that was cut off is %v", got)
	}
}

func execNeedsRunning(w *world) {
	id := w.create(w.sandbox(0), w.Server, 0)
	if _, err := w.Runtime.Exec(w.ctx, id, podruntime.ExecOptions{Command: w.ExecExits(0)}); err == nil {
		w.Error("a command ran in a container that does not")
	}
}

// log returns what a container has written.
func (w *world) log(id string, options podruntime.LogOptions) string {
	w.Helper()
	var out bytes.Buffer
	w.ok(w.Runtime.Logs(w.ctx, id, options, &out, io.Discard))
	return out.String()
}

// printed starts a container that prints and waits until it has.
func (w *world) printed() (id string) {
	w.Helper()
	id = w.start(w.Prints)
	w.eventually("the container has printed", func() bool {
		return w.log(id, podruntime.LogOptions{Tail: -1}) == whole()
	})
	return id
}

func whole() string { return strings.Join(LogLines[:], "\n") + "\n" }

func logs(w *world) {
	id := w.printed()
	for _, test := range []struct {
		options podruntime.LogOptions
		want    string
	}{
		{podruntime.LogOptions{Tail: 0}, ""},
		{podruntime.LogOptions{Tail: 2}, "two\nthree\n"},
		{podruntime.LogOptions{Tail: 99}, whole()},
		{podruntime.LogOptions{Tail: -1, LimitBytes: 6}, "one\ntw"},
		{podruntime.LogOptions{Tail: -1, Since: time.Now().Add(time.Hour)}, ""},
		{podruntime.LogOptions{Tail: -1, Since: time.Now().Add(-time.Hour)}, whole()},
	} {
		if got := w.log(id, test.options); got != test.want {
			w.Errorf("%+v: %q, want %q", test.options, got, test.want)
		}
	}
	stamped := strings.Split(strings.TrimSpace(w.log(id, podruntime.LogOptions{Tail: -1, Timestamps: true})), "\n")
	if len(stamped) != len(LogLines) {
		w.Fatalf("with time stamps: %q", stamped)
	}
	for i, line := range stamped {
		stamp, text, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || at.IsZero() || text != LogLines[i] {
			w.Errorf("line %d with its time: %q, %v", i, line, err)
		}
	}
	if err := w.Runtime.Logs(w.ctx, "no-such-container", podruntime.LogOptions{Tail: -1}, io.Discard, io.Discard); !podruntime.IsNotFound(err) {
		w.Errorf("the log of what does not exist: %v, want not found", err)
	}
}

func logsFollow(w *world) {
	id := w.printed()
	follow := func(ctx context.Context, out io.Writer) <-chan error {
		return async(func() error {
			return w.Runtime.Logs(ctx, id, podruntime.LogOptions{Tail: -1, Follow: true}, out, io.Discard)
		})
	}
	ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
	defer cancel()
	if err := w.within("Logs", follow(ctx, io.Discard)); !errors.Is(err, context.DeadlineExceeded) {
		w.Errorf("following until the context ended: %v, want that the deadline has passed", err)
	}
	var out bytes.Buffer
	result := follow(w.ctx, &out)
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	w.ok(w.within("following the log of a container that ended", result))
	if out.String() != whole() {
		w.Errorf("following gave %q", out.String())
	}
}

func logsOfEnded(w *world) {
	id := w.printed()
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	if got := w.log(id, podruntime.LogOptions{Tail: -1, Follow: true}); got != whole() {
		w.Errorf("the log of an ended container is %q", got)
	}
}

func attachEnds(w *world) {
	id := w.start(w.Server)
	result := async(func() error { return w.Runtime.Attach(w.ctx, id, podruntime.StreamOptions{Stdout: io.Discard}) })
	w.ok(w.Runtime.StopContainer(w.ctx, id, 0))
	// A container that ended before it was attached to is an error, one that
	// ended later is not.
	_ = w.within("Attach", result)

	next := w.create(w.observed().Sandboxes[0].ID, w.Server, 1)
	w.ok(w.Runtime.StartContainer(w.ctx, next))
	ctx, cancel := context.WithTimeout(w.ctx, 300*time.Millisecond)
	defer cancel()
	err := w.within("Attach", async(func() error {
		return w.Runtime.Attach(ctx, next, podruntime.StreamOptions{Stdout: io.Discard})
	}))
	if !errors.Is(err, context.DeadlineExceeded) {
		w.Errorf("attached until the context ended: %v, want that the deadline has passed", err)
	}
	if err := w.Runtime.Attach(w.ctx, "no-such-container", podruntime.StreamOptions{}); !podruntime.IsNotFound(err) {
		w.Errorf("attaching to what does not exist: %v, want not found", err)
	}
}

// closes notes that it was closed.
type closes struct {
	io.Reader
	io.Writer
	closed chan struct{}
}

func (c closes) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

func portForwardCloses(w *world) {
	stream := closes{strings.NewReader(""), io.Discard, make(chan struct{})}
	if err := w.Runtime.PortForward(w.ctx, "no-such-sandbox", 80, stream); !podruntime.IsNotFound(err) {
		w.Errorf("forwarding to no sandbox: %v, want not found", err)
	}
	select {
	case <-stream.closed:
	default:
		w.Error("the stream was left open")
	}
	// Nothing listens on this port.
	stream = closes{strings.NewReader(""), io.Discard, make(chan struct{})}
	if err := w.Runtime.PortForward(w.ctx, w.sandbox(0), 1, stream); err == nil {
		w.Error("forwarding to a port on which nothing listens succeeded")
	}
	select {
	case <-stream.closed:
	default:
		w.Error("the stream was left open")
	}
}
