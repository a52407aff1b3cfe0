package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"nodelet/agent/podruntime"
	"nodelet/internal/sleep"
)

// Exec runs a command in a container. The engine has no call to end one, so
// where ctx ends the process is killed by its number on this machine.
func (r *Runtime) Exec(ctx context.Context, id string, options podruntime.ExecOptions) (int, error) {
	created, err := r.client.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: options.Command, Tty: options.TTY,
		AttachStdin: options.Stdin != nil, AttachStdout: true, AttachStderr: !options.TTY})
	if err != nil {
		return 0, notFound(err, "container", id, "running a command in")
	}
	session, err := r.client.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{Tty: options.TTY})
	if err != nil {
		return 0, fmt.Errorf("running a command in container %s: %w", short(id), err)
	}
	stop := r.resize(ctx, options.Resize, func(size container.ResizeOptions) error {
		return r.client.ContainerExecResize(ctx, created.ID, size)
	})
	defer stop()
	if err := carry(ctx, session, options.StreamOptions, options.TTY, false); err != nil {
		r.killExec(created.ID)
		return 0, fmt.Errorf("running a command in container %s: %w", short(id), err)
	}
	code, err := r.exitCode(ctx, created.ID)
	if err != nil {
		r.killExec(created.ID)
		return 0, fmt.Errorf("running a command in container %s: %w", short(id), err)
	}
	return code, nil
}

// exitCode waits until the engine has noticed that a command has ended: a
// moment after its output did, as a rule.
func (r *Runtime) exitCode(ctx context.Context, exec string) (int, error) {
	const first, longest = 2 * time.Millisecond, 250 * time.Millisecond
	for wait := first; ; wait = min(2*wait, longest) {
		state, err := r.client.ContainerExecInspect(ctx, exec)
		if err != nil {
			return 0, fmt.Errorf("asking for the exit code: %w", err)
		}
		if !state.Running {
			return state.ExitCode, nil
		}
		if !sleep.For(ctx, wait) {
			return 0, ctx.Err()
		}
	}
}

// killExec kills a command that nobody waits for any more.
func (r *Runtime) killExec(exec string) {
	ctx, cancel := r.bounded(context.Background())
	defer cancel()
	state, err := r.client.ContainerExecInspect(ctx, exec)
	if err != nil || !state.Running || state.Pid <= 1 {
		return
	}
	if err := unix.Kill(state.Pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		r.log.Warn("Could not kill an abandoned command", "pid", state.Pid, "err", err)
	}
}
