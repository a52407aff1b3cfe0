package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
)

// StopContainer sends the container's stop signal and, after grace, SIGKILL.
// Docker's own stop is not used: it would kill also when nobody waits for it
// any more, and a second stop with a shorter grace would wait for the first.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("stopping container %s: %w", short(id), err)
	}
	c, err := r.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stopping container %s: %w", short(id), err)
	}
	if !c.State.Running {
		return nil
	}
	if grace <= 0 {
		return r.kill(ctx, id)
	}
	signal := c.Config.StopSignal
	if signal == "" {
		signal = "SIGTERM"
	}
	graceCtx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err = r.signalAndWait(graceCtx, id, signal)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stopping container %s: %w", short(id), err)
	}
	return r.kill(ctx, id)
}

// kill ends a container at once and waits until it has ended.
func (r *Runtime) kill(ctx context.Context, id string) error {
	if err := r.signalAndWait(ctx, id, "SIGKILL"); err != nil {
		return fmt.Errorf("killing container %s: %w", short(id), err)
	}
	return nil
}

// signalAndWait sends a signal and returns when the container does not run. A
// container that is gone, or does not run, is success.
func (r *Runtime) signalAndWait(ctx context.Context, id, signal string) error {
	// Waiting ends with the call, also where it is the signal that fails.
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := r.client.ContainerKill(waitCtx, id, signal)
	if errdefs.IsNotFound(err) {
		return nil
	}
	// A conflict says that it is not running; that is for the wait to confirm,
	// for the engine may be in the middle of noticing.
	if err != nil && !errdefs.IsConflict(err) {
		return err
	}
	ended, failed := r.client.ContainerWait(waitCtx, id, container.WaitConditionNotRunning)
	select {
	case <-ended:
		return nil
	case err := <-failed:
		if errdefs.IsNotFound(err) {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
}
