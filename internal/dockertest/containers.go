package dockertest

import (
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
