package fakeruntime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// logTime is RFC 3339 with all nine digits of the nanoseconds, as the kubelet
// writes it.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// running returns a running container, and what is closed when it ends.
func (r *Runtime) running(ctx context.Context, id string) (*container, <-chan struct{}, error) {
	if err := r.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer r.unlock()
	c := r.containers[id]
	switch {
	case c == nil:
		return nil, nil, podruntime.NotFound("container", id)
	case c.State != pod.ContainerRunning:
		return nil, nil, fmt.Errorf("it is not running: %s", c.State)
	}
	return c, c.hasExited(), nil
}

// Exec implements podruntime.Streams. The container's exec probes answer as it
// is scripted to be; a few commands do what they do elsewhere (see shell.go);
// all others succeed and print nothing.
func (r *Runtime) Exec(ctx context.Context, id string, options podruntime.ExecOptions) (int, error) {
	c, exited, err := r.running(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("running a command in container %s: %w", id, err)
	}
	r.lock()
	isProbe, ok := r.execProbe(c, options.Command)
	r.unlock()
	if isProbe {
		if ok {
			return 0, nil
		}
		return 1, nil
	}
	sh := shell{StreamOptions: options.StreamOptions, hostname: c.owner.name, exited: exited}
	code, err := sh.run(ctx, options.Command)
	if err != nil {
		return 0, fmt.Errorf("running a command in container %s: %w", id, err)
	}
	return code, nil
}

// Attach implements podruntime.Streams. Scripted containers write when they
// start, so there is nothing to see, and they ignore their input.
func (r *Runtime) Attach(ctx context.Context, id string, streams podruntime.StreamOptions) error {
	c, exited, err := r.running(ctx, id)
	if err != nil {
		return fmt.Errorf("attaching to container %s: %w", id, err)
	}
	closed := make(chan struct{})
	if streams.Stdin != nil && c.spec.StdinOnce {
		go func() {
			// However the input ends, there is no more of it.
			_, _ = io.Copy(io.Discard, streams.Stdin)
			close(closed)
		}()
	}
	select {
	case <-exited:
	case <-closed:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Logs implements podruntime.Streams.
func (r *Runtime) Logs(ctx context.Context, id string, options podruntime.LogOptions, stdout, _ io.Writer) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("reading the log of container %s: %w", id, err)
	}
	c := r.containers[id]
	if c == nil {
		r.unlock()
		return fmt.Errorf("reading a log: %w", podruntime.NotFound("container", id))
	}
	var lines []string
	var exited <-chan struct{}
	written := c.StartedAt
	if !written.IsZero() && !written.Before(options.Since) {
		lines = r.behavior(c).Logs
	}
	if c.State == pod.ContainerRunning {
		exited = c.hasExited()
	}
	r.unlock()

	full, err := writeLines(stdout, lines, written, options)
	if err != nil {
		return fmt.Errorf("writing the log of container %s: %w", id, err)
	}
	if !options.Follow || exited == nil || full {
		return nil
	}
	select {
	case <-exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeLines writes log lines until the limit is reached, and reports whether
// it was.
func writeLines(w io.Writer, lines []string, at time.Time, options podruntime.LogOptions) (full bool, err error) {
	if options.Tail >= 0 && int64(len(lines)) > options.Tail {
		lines = lines[int64(len(lines))-options.Tail:]
	}
	if w == nil {
		return false, nil
	}
	left := options.LimitBytes
	for _, line := range lines {
		line += "\n"
		if options.Timestamps {
			line = at.UTC().Format(logTime) + " " + line
		}
		if options.LimitBytes > 0 && int64(len(line)) > left {
			line = line[:left]
		}
		if _, err := io.WriteString(w, line); err != nil {
			return false, err
		}
		if left -= int64(len(line)); options.LimitBytes > 0 && left == 0 {
			return true, nil
		}
	}
	return false, nil
}

// PortForward implements podruntime.Streams. On a port that a running container
// of the sandbox declares, a small HTTP server answers every request with the
// names of the pod and the container; any other port refuses the connection.
func (r *Runtime) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	c, exited, err := r.listener(ctx, sandboxID, port)
	if err != nil {
		return fmt.Errorf("forwarding port %d of sandbox %s: %w", port, sandboxID, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-exited:
		case <-ctx.Done():
		}
		// It is closed more than once; only the server's end counts.
		_ = stream.Close()
	}()
	body := fmt.Sprintf("%s/%s %s\n", c.owner.namespace, c.owner.name, c.Name)
	err = serve(stream, body)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// listener finds the container that listens on a port of a sandbox.
func (r *Runtime) listener(ctx context.Context, sandboxID string, port int32) (*container, <-chan struct{}, error) {
	if err := r.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer r.unlock()
	s := r.sandboxes[sandboxID]
	switch {
	case s == nil:
		return nil, nil, podruntime.NotFound("sandbox", sandboxID)
	case !s.Ready:
		return nil, nil, errors.New("it is not ready")
	}
	for _, c := range s.owner.containers {
		if c.sandbox != s || c.State != pod.ContainerRunning {
			continue
		}
		for _, p := range c.spec.Ports {
			if p.ContainerPort == port {
				return c, c.hasExited(), nil
			}
		}
	}
	return nil, nil, errors.New("connection refused")
}

// serve answers HTTP requests until the other side closes or says something
// that is none.
func serve(stream io.ReadWriter, body string) error {
	in := bufio.NewReader(stream)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return nil
		}
		// The body has to be read before the next request can be.
		_, _ = io.Copy(io.Discard, request.Body)
		_, err = fmt.Fprintf(stream, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if err != nil {
			return fmt.Errorf("writing an HTTP response: %w", err)
		}
	}
}
