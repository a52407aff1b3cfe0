package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/docker/api/types/container"
	"k8s.io/kubelet/pkg/types"

	"nodelet/agent/podruntime"
)

// linkLog makes the links to a container's log where tools look for it: in the
// pod's log directory, and by a flat name that leads there. The log itself is
// the engine's and need not exist yet.
func (r *Runtime) linkLog(ctx context.Context, sandbox *container.InspectResponse, id string, config *podruntime.ContainerConfig) error {
	dir := sandbox.Config.Labels[labelLogDirectory]
	if dir == "" || config.LogPath == "" {
		return nil
	}
	root, _, err := r.facts(ctx)
	if err != nil {
		return err
	}
	link := filepath.Join(dir, config.LogPath)
	if err := relink(filepath.Join(root, "containers", id, id+"-json.log"), link); err != nil {
		return err
	}
	if r.config.ContainerLogsDirectory == "" {
		return nil
	}
	return relink(link, r.flatLink(config.Pod.Name, config.Pod.Namespace, config.Container.Name, id))
}

// unlinkLog removes a container's links.
func (r *Runtime) unlinkLog(c *container.InspectResponse) {
	labels := c.Config.Labels
	if r.config.ContainerLogsDirectory == "" || labels[labelLogPath] == "" {
		return
	}
	flat := r.flatLink(labels[types.KubernetesPodNameLabel], labels[types.KubernetesPodNamespaceLabel],
		labels[types.KubernetesContainerNameLabel], c.ID)
	link, err := os.Readlink(flat)
	if err != nil {
		return
	}
	for _, path := range []string{link, flat} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			r.log.Warn("Could not remove the link to a container's log", "path", path, "err", err)
		}
	}
}

func (r *Runtime) flatLink(podName, namespace, container, id string) string {
	return filepath.Join(r.config.ContainerLogsDirectory, fmt.Sprintf("%s_%s_%s-%s.log", podName, namespace, container, id))
}

// relink makes link lead to target, whatever it led to before.
func relink(target, link string) error {
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return fmt.Errorf("making the directory of a log: %w", err)
	}
	if old, err := os.Readlink(link); err == nil && old == target {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("replacing the link to a log: %w", err)
	}
	return os.Symlink(target, link)
}
