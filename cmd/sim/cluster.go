package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/scenarios"
	"nodelet/simcluster"
)

// stopWithin bounds the end of a cluster; after that the process ends anyway.
const stopWithin = 30 * time.Second

// stage is a cluster as scenarios see it.
type stage struct{ *simcluster.Cluster }

var (
	_ scenarios.Cluster       = stage{}
	_ scenarios.SafetyChecker = stage{}
	_ scenarios.FileReader    = stage{}
)

// AddNodes adds a group of nodes.
func (s stage) AddNodes(ctx context.Context, g scenarios.NodeGroup) error {
	capacity := v1.ResourceList{}
	for name, q := range g.Capacity {
		capacity[v1.ResourceName(name)] = q.Quantity
	}
	var taints []v1.Taint
	for _, t := range g.Taints {
		taints = append(taints, v1.Taint{Key: t.Key, Value: t.Value, Effect: v1.TaintEffect(t.Effect)})
	}
	return s.Cluster.AddNodes(ctx, simcluster.NodeGroup{Name: g.Name, Count: g.Count, Capacity: capacity,
		Labels: g.Labels, Taints: taints})
}

// KillNode takes a node away.
func (s stage) KillNode(name, fault string) error {
	faults := map[string]simcluster.Fault{"power": simcluster.FaultPower, "agent": simcluster.FaultAgent,
		"network": simcluster.FaultNetwork}
	return s.Cluster.KillNode(name, faults[fault])
}

// args are a component's flags from a scenario, in a fixed order.
func args(flags map[string]string) []string {
	var all []string
	for name, value := range flags {
		all = append(all, fmt.Sprintf("--%s=%s", name, value))
	}
	slices.Sort(all)
	return all
}

// stop ends a cluster, also when the user is in a hurry.
func stop(c *simcluster.Cluster) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		return exit(exitCluster, fmt.Errorf("stopping the cluster: %w", err))
	}
	return nil
}

// bound ends ctx when the cluster fails, with the failure as its cause.
func bound(ctx context.Context, c *simcluster.Cluster) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-c.Done():
			cancel(&clusterFailure{c.Err()})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// clusterFailure says that the control plane ended by itself.
type clusterFailure struct{ err error }

func (e *clusterFailure) Error() string { return "the cluster failed: " + e.err.Error() }
func (e *clusterFailure) Unwrap() error { return e.err }

func isClusterFailure(err error) bool {
	var e *clusterFailure
	return errors.As(err, &e)
}
