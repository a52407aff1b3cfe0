// Package docker runs pods on Docker Engine: podruntime on the Engine's API,
// version 1.41 or newer. It is the only importer of Docker's client.
//
// A pod's sandbox is a pause container that holds the pod's network, its IPC
// and, where asked, its PID namespace; the pod's other containers join them.
// Names and labels are those of dockershim (names.go), so that tools which
// know them recognise the containers, and everything the package must know
// again after a restart is in them: it keeps no state of its own.
//
// Start at sandbox.go and container.go; what a container is made with is in
// hostconfig.go and security.go, how it is read back in observe.go.
package docker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"nodelet/agent/podruntime"
)

// Config says which engine to use and how. Start from DefaultConfig.
type Config struct {
	// Endpoint is where the engine listens: unix:///path or tcp://host:port.
	Endpoint string
	// PodInfraContainerImage is the reference of the pause image.
	PodInfraContainerImage string
	// PauseArchive returns the pause image as `docker save` writes it, to be
	// loaded when the engine does not have it; nil to have it pulled.
	PauseArchive func() (io.Reader, error)
	// RequestTimeout bounds every call that is not to wait for a container, a
	// pull or a stream.
	RequestTimeout time.Duration
	// ImagePullProgressDeadline cancels a pull that makes no progress for so
	// long.
	ImagePullProgressDeadline time.Duration
	// LogMaxSize is the size in bytes at which a container's log is rotated,
	// LogMaxFiles how many files of it are kept.
	LogMaxSize  int64
	LogMaxFiles int
	// ContainerLogsDirectory is where links to the containers' logs go, beside
	// those in the pods' log directories; empty for none.
	ContainerLogsDirectory string
	// SeccompProfileRoot is the directory of Localhost seccomp profiles.
	SeccompProfileRoot string
	// CgroupRoot is where the cgroup hierarchies are mounted.
	CgroupRoot string
}

// DefaultConfig has dockershim's values.
func DefaultConfig() Config {
	return Config{
		Endpoint: "unix:///var/run/docker.sock", RequestTimeout: 2 * time.Minute,
		ImagePullProgressDeadline: time.Minute, LogMaxSize: 10 << 20, LogMaxFiles: 5,
		ContainerLogsDirectory: "/var/log/containers", SeccompProfileRoot: "/var/lib/kubelet/seccomp",
		CgroupRoot: "/sys/fs/cgroup",
	}
}

// Runtime is the engine. All methods may be called concurrently.
type Runtime struct {
	config Config
	client *client.Client
	log    *slog.Logger
	events hub
	ended  endedCache

	// negotiated is set when the client knows the engine's version.
	negotiated atomic.Bool

	// noNegativeOOM is set when the engine turned out to lack the right to
	// lower a process's OOM score below its own.
	noNegativeOOM atomic.Bool

	mu sync.Mutex
	// root and memory are the engine's data root and the machine's memory in
	// bytes, once they are known.
	root   string
	memory int64
}

var _ podruntime.Runtime = (*Runtime)(nil)

// New returns a runtime on the engine at config's endpoint. The engine need not
// be there yet: nothing is asked of it before the first call.
func New(config Config, log *slog.Logger) (*Runtime, error) {
	c, err := client.NewClientWithOpts(client.WithHost(config.Endpoint), client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", config.Endpoint, err)
	}
	r := &Runtime{config: config, client: c, log: log}
	r.events.stream = r.stream
	return r, nil
}

// Close gives the connections to the engine back. Containers go on.
func (r *Runtime) Close() error { return r.client.Close() }

// bounded is ctx with the time that one request may take.
func (r *Runtime) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.config.RequestTimeout)
}

// negotiate has the client learn the engine's version before a call for which it
// looks at the version first: by itself it does that with any call, while others
// look.
func (r *Runtime) negotiate(ctx context.Context) error {
	if r.negotiated.Load() {
		return nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if _, err := r.client.ServerVersion(ctx); err != nil {
		return fmt.Errorf("asking the engine for its version: %w", err)
	}
	r.negotiated.Store(true)
	return nil
}

// facts returns the engine's data root and the machine's memory.
func (r *Runtime) facts(ctx context.Context) (root string, memory int64, err error) {
	r.mu.Lock()
	root, memory = r.root, r.memory
	r.mu.Unlock()
	if root != "" {
		return root, memory, nil
	}
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	info, err := r.client.Info(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("asking the engine about itself: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.root, r.memory = info.DockerRootDir, info.MemTotal
	return r.root, r.memory, nil
}

// Status asks the engine for its version, which is the cheapest proof of life
// that says what it is.
func (r *Runtime) Status(ctx context.Context) (podruntime.Status, error) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	version, err := r.client.ServerVersion(ctx)
	if err != nil {
		return podruntime.Status{}, fmt.Errorf("asking the engine for its version: %w", err)
	}
	return podruntime.Status{Name: "docker", Version: version.Version, Ready: true}, nil
}

// notFound turns the engine's answer that something does not exist into the
// contract's, and says of others what was being done.
func notFound(err error, kind, id, doing string) error {
	switch {
	case err == nil:
		return nil
	case errdefs.IsNotFound(err):
		return podruntime.NotFound(kind, id)
	}
	return fmt.Errorf("%s %s %s: %w", doing, kind, short(id), err)
}

// short is an ID as people read it.
func short(id string) string {
	const shown = 12
	if len(id) > shown {
		return id[:shown]
	}
	return id
}
