package dockertest

import (
	"bytes"
	"context"
	"io"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
)

// Container is a container as the engine lists it.
type Container struct {
	ID, Name, State string
	Labels          map[string]string
}

// Containers lists those that have a label, given as key or key=value.
func (e *Engine) Containers(ctx context.Context, label string) ([]Container, error) {
	list, err := e.Client.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", label))})
	if err != nil {
		return nil, err
	}
	var all []Container
	for _, c := range list {
		all = append(all, Container{ID: c.ID, Name: c.Names[0], State: c.State, Labels: c.Labels})
	}
	return all, nil
}

// Logs writes what a container has written to its standard output.
func (e *Engine) Logs(ctx context.Context, id string, stdout io.Writer) error {
	body, err := e.Client.ContainerLogs(ctx, id, container.LogsOptions{ShowStdout: true})
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = stdcopy.StdCopy(stdout, io.Discard, body)
	return err
}

// Exec runs a command in a container and returns its exit code and what it wrote.
func (e *Engine) Exec(ctx context.Context, id string, command ...string) (code int, output string, err error) {
	created, err := e.Client.ContainerExecCreate(ctx, id, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", err
	}
	attached, err := e.Client.ContainerExecAttach(ctx, created.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, "", err
	}
	defer attached.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, attached.Reader); err != nil {
		return 0, "", err
	}
	is, err := e.Client.ContainerExecInspect(ctx, created.ID)
	return is.ExitCode, out.String(), err
}

// StartPair starts, by bare calls, what makes a pod: a container that holds the
// network, and one that joins it.
func (e *Engine) StartPair(ctx context.Context, name, image string) error {
	holder, err := e.Client.ContainerCreate(ctx, &container.Config{Image: image, Cmd: []string{"serve"}},
		&container.HostConfig{IpcMode: container.IPCModeShareable}, nil, nil, name+"-holder")
	if err != nil {
		return err
	}
	if err := e.Client.ContainerStart(ctx, holder.ID, container.StartOptions{}); err != nil {
		return err
	}
	join := "container:" + holder.ID
	member, err := e.Client.ContainerCreate(ctx, &container.Config{Image: image, Cmd: []string{"stubborn"}},
		&container.HostConfig{NetworkMode: container.NetworkMode(join), IpcMode: container.IpcMode(join)}, nil, nil, name)
	if err != nil {
		return err
	}
	return e.Client.ContainerStart(ctx, member.ID, container.StartOptions{})
}

// RemovePair removes what StartPair has started.
func (e *Engine) RemovePair(ctx context.Context, name string) error {
	for _, n := range []string{name, name + "-holder"} {
		if err := e.Client.ContainerRemove(ctx, n, container.RemoveOptions{Force: true}); err != nil {
			return err
		}
	}
	return nil
}
