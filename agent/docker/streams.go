package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"nodelet/agent/podruntime"
	"nodelet/internal/sleep"
)

// Attach connects to the streams of a running container.
func (r *Runtime) Attach(ctx context.Context, id string, streams podruntime.StreamOptions) error {
	c, err := r.inspect(ctx, id)
	if err != nil {
		return notFound(err, "container", id, "attaching to")
	}
	if !c.State.Running {
		return fmt.Errorf("attaching to container %s: it is not running", short(id))
	}
	attached, err := r.client.ContainerAttach(ctx, id, container.AttachOptions{Stream: true,
		Stdin: streams.Stdin != nil, Stdout: streams.Stdout != nil, Stderr: streams.Stderr != nil})
	if err != nil {
		return notFound(err, "container", id, "attaching to")
	}
	stop := r.resize(ctx, streams.Resize, func(size container.ResizeOptions) error {
		return r.client.ContainerResize(ctx, id, size)
	})
	defer stop()
	ended, done := r.closeAtEnd(ctx, id, attached)
	defer done()
	if err := carry(ctx, attached, streams, c.Config.Tty, c.Config.StdinOnce); err != nil && !ended.Load() {
		return fmt.Errorf("attached to container %s: %w", short(id), err)
	}
	return nil
}

// closeAtEnd closes a session soon after its container has ended, until done is
// called: of one that ends while it is being attached to the engine may keep the
// session open for ever.
func (r *Runtime) closeAtEnd(ctx context.Context, id string, session types.HijackedResponse) (ended *atomic.Bool, done func()) {
	// drain is how long the last output may take to come.
	const drain = time.Second
	ended = &atomic.Bool{}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		notRunning, failed := r.client.ContainerWait(ctx, id, container.WaitConditionNotRunning)
		select {
		case <-notRunning:
		case err := <-failed:
			if !errdefs.IsNotFound(err) {
				// The engine has gone, with the session, or nobody waits any more.
				return
			}
		}
		if sleep.For(ctx, drain) {
			ended.Store(true)
			session.Close()
		}
	}()
	return ended, cancel
}

// resize passes the sizes of a terminal on until the returned function is
// called.
func (r *Runtime) resize(ctx context.Context, sizes <-chan podruntime.TerminalSize, set func(container.ResizeOptions) error) (stop func()) {
	if sizes == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case size, ok := <-sizes:
				if !ok {
					return
				}
				if err := set(container.ResizeOptions{Height: uint(size.Height), Width: uint(size.Width)}); err != nil {
					r.log.Debug("Could not resize a terminal", "err", err)
				}
			}
		}
	}()
	return cancel
}

// carry copies between a session of the engine and the caller's streams until
// the session's output ends, or ctx does. Where stdinEnds the session is over
// once the caller's input is.
func carry(ctx context.Context, session types.HijackedResponse, streams podruntime.StreamOptions, tty, stdinEnds bool) error {
	defer session.Close()
	// Closing the connection is what ends the copies.
	stop := context.AfterFunc(ctx, session.Close)
	defer stop()
	over := make(chan error, 2)
	if streams.Stdin != nil {
		go func() {
			_, err := io.Copy(session.Conn, streams.Stdin)
			_ = session.CloseWrite()
			if stdinEnds || err != nil {
				over <- nil
			}
		}()
	}
	go func() { over <- copyOutput(session.Reader, streams, tty) }()
	err := <-over
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func copyOutput(from io.Reader, streams podruntime.StreamOptions, tty bool) error {
	stdout, stderr := orDiscard(streams.Stdout), orDiscard(streams.Stderr)
	var err error
	if tty {
		_, err = io.Copy(stdout, from)
	} else {
		_, err = stdcopy.StdCopy(stdout, stderr, from)
	}
	return err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Logs writes what the engine has kept of the container's output.
func (r *Runtime) Logs(ctx context.Context, id string, options podruntime.LogOptions, stdout, stderr io.Writer) error {
	c, err := r.inspect(ctx, id)
	if err != nil {
		return notFound(err, "container", id, "reading the log of")
	}
	asked := container.LogsOptions{ShowStdout: true, ShowStderr: true, Follow: options.Follow && c.State.Running,
		Timestamps: options.Timestamps, Tail: "all"}
	if options.Tail >= 0 {
		asked.Tail = strconv.FormatInt(options.Tail, 10)
	}
	if !options.Since.IsZero() {
		asked.Since = options.Since.Format(time.RFC3339Nano)
	}
	body, err := r.client.ContainerLogs(ctx, id, asked)
	if err != nil {
		return notFound(err, "container", id, "reading the log of")
	}
	defer body.Close()
	streams := podruntime.StreamOptions{Stdout: stdout, Stderr: stderr}
	if options.LimitBytes > 0 {
		limit := &limit{left: options.LimitBytes}
		streams.Stdout, streams.Stderr = limit.of(orDiscard(stdout)), limit.of(orDiscard(stderr))
	}
	err = copyOutput(body, streams, c.Config.Tty)
	if ctx.Err() != nil {
		return fmt.Errorf("reading the log of container %s: %w", short(id), ctx.Err())
	}
	if err != nil && !errors.Is(err, errLimit) {
		return fmt.Errorf("reading the log of container %s: %w", short(id), err)
	}
	return nil
}

// limit bounds what is written to several writers together.
type limit struct{ left int64 }

// errLimit ends a copy when the limit is reached.
var errLimit = errors.New("limit of bytes reached")

func (l *limit) of(w io.Writer) io.Writer { return &limited{l, w} }

type limited struct {
	*limit
	w io.Writer
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(int64(len(p)), l.left)
	l.left -= n
	written, err := l.w.Write(p[:n])
	if err == nil && l.left <= 0 {
		err = errLimit
	}
	return written, err
}
