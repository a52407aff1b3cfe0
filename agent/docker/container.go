package docker

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

// CreateContainer creates a container that joins the sandbox's namespaces.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, config podruntime.ContainerConfig) (string, error) {
	what := "container " + describe(config.Pod, config.Container.Name)
	sandbox, err := r.inspect(ctx, sandboxID)
	if err != nil {
		return "", notFound(err, "sandbox", sandboxID, "creating "+what+" in")
	}
	if !sandbox.State.Running {
		return "", fmt.Errorf("creating %s: sandbox %s is not running", what, short(sandboxID))
	}
	_, memory, err := r.facts(ctx)
	if err != nil {
		return "", fmt.Errorf("creating %s: %w", what, err)
	}
	spec := r.containerSpec(&sandbox, &config)
	host, err := r.containerHost(&sandbox, &config, memory)
	if err != nil {
		return "", fmt.Errorf("creating %s: %w", what, err)
	}
	if err := makeMountSources(config.Mounts); err != nil {
		return "", fmt.Errorf("creating %s: %w", what, err)
	}
	name := func(extra string) string {
		return containerName(config.Pod, config.Container.Name, config.Attempt, extra)
	}
	id, err := r.create(ctx, creation{name: name, config: spec, host: host, keep: func(c *container.InspectResponse) bool {
		return c.State.Status == container.StateCreated && c.State.ExitCode == 0 &&
			c.Config.Labels[labelSandbox] == sandbox.ID && c.Config.Labels[labelHash] == config.Hash
	}})
	if errdefs.IsNotFound(err) {
		return "", podruntime.NotFound("image", config.ImageID)
	}
	if err != nil {
		return "", fmt.Errorf("creating %s: %w", what, err)
	}
	if err := r.linkLog(ctx, &sandbox, id, &config); err != nil {
		r.log.Warn("Could not link a container's log", "container", what, "err", err)
	}
	return id, nil
}

// makeMountSources makes the directories on the host that are to be mounted
// and do not exist, as runtimes do.
func makeMountSources(mounts []podruntime.Mount) error {
	for _, m := range mounts {
		if _, err := os.Stat(m.HostPath); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(m.HostPath, 0o755); err != nil {
			return fmt.Errorf("making the directory to mount at %s: %w", m.ContainerPath, err)
		}
	}
	return nil
}

// StartContainer starts a created container.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	return notFound(r.client.ContainerStart(ctx, id, container.StartOptions{}), "container", id, "starting")
}

// RemoveContainer removes a container and the links to its log.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	c, err := r.inspect(ctx, id)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing container %s: %w", short(id), err)
	}
	if err := r.remove(ctx, id); err != nil {
		return err
	}
	r.unlinkLog(&c)
	r.ended.forget(c.ID)
	return nil
}

// UpdateContainer changes CPU and memory of a container. A resource that the
// requirements do not name is left as it is.
func (r *Runtime) UpdateContainer(ctx context.Context, id string, requirements v1.ResourceRequirements) error {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	_, err := r.client.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: resourcesOf(requirements)})
	return notFound(err, "container", id, "updating the resources of")
}
