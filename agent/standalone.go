package agent

import (
	"context"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/kubeapi"
)

// standalone reports whether the agent has no API server. It then runs static
// pods, which need nothing of one, and tells nobody of them.
func (d *Deps) standalone() bool { return d.API == nil }

// noWatches is what an agent without an API server sees of it.
type noWatches struct{}

func (noWatches) WatchPods(ctx context.Context, _ string, _ kubeapi.PodHandler)  { <-ctx.Done() }
func (noWatches) WatchNode(ctx context.Context, _ string, _ kubeapi.NodeHandler) { <-ctx.Done() }
func (noWatches) WatchServices(ctx context.Context)                              { <-ctx.Done() }

// Services are none: the pods' environment has no services in it.
func (noWatches) Services(string) ([]*v1.Service, error) { return nil, nil }
