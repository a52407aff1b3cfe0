package docker

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/kubelet/pkg/types"

	"nodelet/agent/podruntime"
	"nodelet/internal/sleep"
)

// RunSandbox creates and starts the pod's pause container.
func (r *Runtime) RunSandbox(ctx context.Context, config podruntime.SandboxConfig) (string, error) {
	what := fmt.Sprintf("sandbox of pod %s/%s", config.Pod.Namespace, config.Pod.Name)
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("running %s: %w", what, err)
	}
	image, err := r.pauseImage(ctx)
	if err != nil {
		return "", fmt.Errorf("running %s: %w", what, err)
	}
	spec, host, err := r.sandboxSpec(&config, image)
	if err != nil {
		return "", fmt.Errorf("running %s: %w", what, err)
	}
	name := func(extra string) string { return containerName(config.Pod, sandboxName, config.Attempt, extra) }
	id, err := r.create(ctx, creation{name: name, config: spec, host: host, keep: func(c *container.InspectResponse) bool {
		return c.State.Running || c.State.Status == container.StateCreated && c.State.ExitCode == 0
	}})
	if err != nil {
		return "", fmt.Errorf("creating %s: %w", what, err)
	}
	err = r.startSandbox(ctx, id)
	if err != nil && ctx.Err() == nil && r.oomRefused(ctx, id) {
		return r.RunSandbox(ctx, config)
	}
	if err != nil {
		return "", fmt.Errorf("starting %s: %w", what, err)
	}
	return id, nil
}

func (r *Runtime) startSandbox(ctx context.Context, id string) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return r.client.ContainerStart(ctx, id, container.StartOptions{})
}

// oomRefused reports whether it may have been its negative OOM score for which
// a sandbox could not be started: an engine without CAP_SYS_RESOURCE can only
// raise it. No negative score is used again then.
func (r *Runtime) oomRefused(ctx context.Context, id string) bool {
	c, err := r.inspect(ctx, id)
	if errdefs.IsNotFound(err) && r.noNegativeOOM.Load() {
		// Another call has come to this point and replaced it.
		return true
	}
	if err != nil || c.State.Running || c.HostConfig.OomScoreAdj >= 0 {
		return false
	}
	if !r.noNegativeOOM.Swap(true) {
		r.log.Warn("The engine could not start a sandbox with a negative OOM score; trying without one",
			"error", c.State.Error)
	}
	return true
}

// oomScore is adj, or the nearest that the engine may set.
func (r *Runtime) oomScore(adj int) int {
	if r.noNegativeOOM.Load() {
		return max(adj, 0)
	}
	return adj
}

// StopSandbox kills everything in the sandbox, the pause container last.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	members, err := r.members(ctx, id)
	if err != nil {
		return fmt.Errorf("stopping sandbox %s: %w", short(id), err)
	}
	for _, c := range members {
		if err := r.kill(ctx, c.ID); err != nil {
			return fmt.Errorf("stopping sandbox %s: %w", short(id), err)
		}
	}
	if err := r.kill(ctx, id); err != nil {
		return fmt.Errorf("stopping sandbox %s: %w", short(id), err)
	}
	return nil
}

// RemoveSandbox removes everything in the sandbox, the pause container last, so
// that a removal that was cut off can be found and finished.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	members, err := r.members(ctx, id)
	if err != nil {
		return fmt.Errorf("removing sandbox %s: %w", short(id), err)
	}
	for _, c := range members {
		if err := r.RemoveContainer(ctx, c.ID); err != nil {
			return fmt.Errorf("removing sandbox %s: %w", short(id), err)
		}
	}
	c, err := r.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing sandbox %s: %w", short(id), err)
	}
	if err := r.remove(ctx, id); err != nil {
		return fmt.Errorf("removing sandbox %s: %w", short(id), err)
	}
	r.cleanUp(ctx, &c)
	return nil
}

// cleanUp removes what the pod leaves outside the engine once its last sandbox
// is gone.
func (r *Runtime) cleanUp(ctx context.Context, sandbox *container.InspectResponse) {
	left, err := r.list(ctx, filters.Arg("label", types.KubernetesPodUIDLabel+"="+sandbox.Config.Labels[types.KubernetesPodUIDLabel]))
	if err != nil || len(left) > 0 {
		return
	}
	if dir := sandbox.Config.Labels[labelLogDirectory]; dir != "" {
		if err := os.RemoveAll(dir); err != nil {
			r.log.Warn("Could not remove a pod's log directory", "directory", dir, "err", err)
		}
	}
	r.removeCgroup(sandbox.HostConfig.CgroupParent)
}

// members lists the containers of a sandbox.
func (r *Runtime) members(ctx context.Context, id string) ([]container.Summary, error) {
	return r.list(ctx, filters.Arg("label", labelSandbox+"="+id))
}

// list lists containers, never their sizes, which would have the engine read
// whole directories.
func (r *Runtime) list(ctx context.Context, args ...filters.KeyValuePair) ([]container.Summary, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if err := r.negotiate(ctx); err != nil {
		return nil, err
	}
	list, err := r.client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(args...)})
	if err != nil {
		return nil, fmt.Errorf("listing containers: %w", err)
	}
	return list, nil
}

func (r *Runtime) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	c, err := r.client.ContainerInspect(ctx, id)
	if err != nil {
		return c, fmt.Errorf("inspecting container %s: %w", short(id), err)
	}
	return c, nil
}

// remove removes a container, killing it if it runs. One that is gone, or that
// is being removed, is waited for.
func (r *Runtime) remove(ctx context.Context, id string) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	for {
		err := r.client.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		switch {
		case err == nil || errdefs.IsNotFound(err):
			return nil
		case !errdefs.IsConflict(err):
			return fmt.Errorf("removing container %s: %w", short(id), err)
		}
		// Somebody else's removal is in progress.
		if !sleep.For(ctx, 20*time.Millisecond) {
			return fmt.Errorf("removing container %s: %w", short(id), ctx.Err())
		}
	}
}
