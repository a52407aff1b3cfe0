package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"nodelet/agent"
	"nodelet/agent/credentials"
	"nodelet/agent/docker"
	"nodelet/agent/machine"
	"nodelet/agent/node"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
	"nodelet/internal/pause"
)

// newRuntime connects to Docker Engine. The engine need not be there yet.
func newRuntime(o runtimeOptions, log *slog.Logger) (podruntime.Runtime, error) {
	config := docker.DefaultConfig()
	config.Endpoint = o.Endpoint
	config.LogMaxSize, config.LogMaxFiles = o.LogMaxSize, o.LogMaxFiles
	config.ImagePullProgressDeadline = o.ImagePullProgressDeadline
	config.SeccompProfileRoot = filepath.Join(o.RootDir, "seccomp")
	config.PodInfraContainerImage = o.PodInfraContainerImage
	if config.PodInfraContainerImage == "" {
		archive, ref, err := pause.Image(runtime.GOARCH)
		if err != nil {
			return nil, fmt.Errorf("no pause image for this architecture, give --pod-infra-container-image: %w", err)
		}
		config.PodInfraContainerImage = ref
		config.PauseArchive = func() (io.Reader, error) { return bytes.NewReader(archive), nil }
	}
	return docker.New(config, log)
}

// hostFiles are this machine's.
type hostFiles struct{ rootDir string }

// ReadFile implements agent.HostFiles.
func (hostFiles) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

// Credentials implements agent.HostFiles.
func (h hostFiles) Credentials() (credentials.Keyring, []error) {
	dir, _ := os.Getwd()
	home, _ := os.UserHomeDir()
	return credentials.FromFiles(credentials.NodeFiles(h.rootDir, dir, home), os.ReadFile)
}

// serve is the node's life until ctx ends.
func serve(ctx context.Context, s *settings, r podruntime.Runtime, log *slog.Logger) error {
	if err := os.MkdirAll(s.agent.RootDir, 0o750); err != nil {
		return fmt.Errorf("making the agent's directory: %w", err)
	}
	m, err := machine.New(s.machine)
	if err != nil {
		return badInput{err}
	}
	a, err := agent.New(s.agent, agent.Deps{
		Runtime:   r,
		Prober:    probe.NewNetwork(s.agent.Version),
		Machine:   nodeMachine{m},
		API:       s.api,
		HostFiles: hostFiles{s.agent.RootDir},
		CSI:       true,
		Rand:      rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		Logger:    log,
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
