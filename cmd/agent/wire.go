package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"

	"nodelet/agent"
	"nodelet/agent/machine"
	"nodelet/agent/node"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
)

// newRuntime connects to the container runtime.
func newRuntime(runtimeOptions) (podruntime.Runtime, error) {
	return nil, errors.New("no container runtime yet: Docker Engine is to come")
}

// serve is the node's life until ctx ends.
func serve(ctx context.Context, s *settings, runtime podruntime.Runtime, log *slog.Logger) error {
	if err := os.MkdirAll(s.agent.RootDir, 0o750); err != nil {
		return fmt.Errorf("making the agent's directory: %w", err)
	}
	m, err := machine.New(s.machine)
	if err != nil {
		return badInput{err}
	}
	a, err := agent.New(s.agent, agent.Deps{
		Runtime: runtime,
		Prober:  probe.NewNetwork(s.agent.Version),
		Machine: nodeMachine{m},
		API:     s.api,
		Rand:    rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Logger:  log,
	})
	if err != nil {
		return err
	}
	stop, err := serveHealthz(s.healthz, a.Healthy, log)
	if err != nil {
		return err
	}
	defer stop()
	log.Info("Starting the agent", "version", version, "node", s.agent.NodeName)
	err = a.Run(ctx)
	log.Info("The agent has ended; its pods go on running")
	return err
}

// nodeMachine is a machine as the agent asks for it.
type nodeMachine struct{ *machine.Machine }

// Facts implements node.Machine.
func (m nodeMachine) Facts(ctx context.Context) (node.Facts, error) {
	facts, err := m.Machine.Facts(ctx)
	return node.Facts(facts), err
}
