package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// PortForward connects stream with a port on the loopback of the sandbox's
// network.
func (r *Runtime) PortForward(ctx context.Context, sandboxID string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	c, err := r.inspect(ctx, sandboxID)
	if err != nil {
		return notFound(err, "sandbox", sandboxID, "forwarding a port of")
	}
	if !c.State.Running {
		return fmt.Errorf("forwarding port %d: sandbox %s is not running", port, short(sandboxID))
	}
	conn, err := dialIn(ctx, fmt.Sprintf("/proc/%d/ns/net", c.State.Pid), port)
	if err != nil {
		return fmt.Errorf("forwarding port %d of sandbox %s: %w", port, short(sandboxID), err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close(); stream.Close() })()
	done := make(chan error, 2)
	go func() { _, err := io.Copy(conn, stream); done <- err }()
	go func() { _, err := io.Copy(stream, conn); done <- err }()
	err = <-done
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("forwarding port %d of sandbox %s: %w", port, short(sandboxID), err)
	}
	return nil
}

// dialIn connects to a port on the loopback of a network namespace. A socket
// stays in the namespace that it was made in.
func dialIn(ctx context.Context, namespace string, port int32) (net.Conn, error) {
	type dialed struct {
		conn net.Conn
		err  error
	}
	result := make(chan dialed, 1)
	go func() {
		// The thread is never unlocked, so that it ends with this goroutine
		// and nothing else ever runs in the other namespace.
		runtime.LockOSThread()
		fd, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			result <- dialed{nil, fmt.Errorf("opening the pod's network: %w", err)}
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			result <- dialed{nil, fmt.Errorf("entering the pod's network: %w", err)}
			return
		}
		var faults []error
		for _, host := range []string{"127.0.0.1", "::1"} {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
			if err == nil {
				result <- dialed{conn, nil}
				return
			}
			faults = append(faults, err)
		}
		result <- dialed{nil, errors.Join(faults...)}
	}()
	d := <-result
	return d.conn, d.err
}
