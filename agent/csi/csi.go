// Package csi has the volumes of CSI drivers: their node side, as the kubelet
// has it. See https://kubernetes-csi.github.io/docs/ and the CSI specification.
//
// A driver's socket in the plugin registry makes it known to the agent
// (sockets.go), which asks it who it is (register.go) and tells the API server
// (csinode.go). Publish and Unpublish (publish.go) have a driver mount a volume for
// a pod, by way of a global mount that a node's pods share where the driver wants
// one (stage.go), once it is attached where it must be (attach.go). driver.go makes
// the calls.
//
// What is mounted for whom is known from the files that the kubelet writes beside
// each mount (voldata.go), which are there before a driver is called and go after
// it has undone everything. So an agent that was killed at any step finds again
// all that it must undo.
package csi

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"

	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// NodeAPI is what is asked of the API server on the node. Errors are its own,
// wrapped.
type NodeAPI interface {
	// CurrentNode returns the Node as it is, from no cache.
	CurrentNode(ctx context.Context, name string) (*v1.Node, error)
	PatchNode(ctx context.Context, old, next *v1.Node) (*v1.Node, error)
}

// CSINodeAPI is what is asked of the API server on the node's CSINode.
type CSINodeAPI interface {
	CSINode(ctx context.Context, name string) (*storage.CSINode, error)
	CreateCSINode(ctx context.Context, n *storage.CSINode) (*storage.CSINode, error)
	UpdateCSINode(ctx context.Context, n *storage.CSINode) (*storage.CSINode, error)
	DeleteCSINode(ctx context.Context, name string) error
}

// VolumeAPI is what is asked of the API server on volumes.
type VolumeAPI interface {
	CSIDriver(ctx context.Context, name string) (*storage.CSIDriver, error)
	VolumeAttachment(ctx context.Context, name string) (*storage.VolumeAttachment, error)
	StorageSecret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// API is what is asked of the API server.
type API interface {
	NodeAPI
	CSINodeAPI
	VolumeAPI
}

// Config says where things are, and for how long to wait. The zero value is not
// valid.
type Config struct {
	NodeName string
	// Root is the agent's directory: drivers register in plugins_registry in it.
	Root string
	// CallTimeout bounds one call of a driver; one that takes longer is made again.
	CallTimeout time.Duration
	// DriverPatience is how long a volume waits for its driver to register before
	// that is an error; AttachPatience is how long it waits to be attached.
	DriverPatience, AttachPatience time.Duration
	// Rescan is how often the registry is read though nobody told of a change.
	Rescan time.Duration
}

// DefaultConfig returns the kubelet's values where it has such. NodeName is left
// to be set.
func DefaultConfig() Config {
	return Config{Root: "/var/lib/kubelet", CallTimeout: 2 * time.Minute, DriverPatience: 5 * time.Second,
		AttachPatience: 2*time.Minute + 3*time.Second, Rescan: 10 * time.Second}
}

// Deps is what a Manager works with.
type Deps struct {
	API API
	// Node returns the Node as it is known to be, nil if it is not registered.
	Node func() *v1.Node
	// Report has the node's status written soon, because InUse has changed. It
	// must not wait.
	Report func()
	Log    *slog.Logger
}

// Manager has the CSI drivers of a node and their volumes. All methods may be
// called concurrently.
type Manager struct {
	config Config
	Deps

	// registry is where drivers register.
	registry string
	locks    locks[volumeKey]
	// wake has an element when there is something to unstage.
	wake chan struct{}
	// step, if not nil, is called before each step of publishing and what undoes
	// it. An error ends the call. It is for tests.
	step func(what string) error
	// writing is held while the Node or the CSINode is being changed.
	writing sync.Mutex

	mu sync.Mutex
	// drivers are the registered ones, by name; changed is closed and made anew
	// when there is another one.
	drivers map[string]*driver
	changed chan struct{}
	// volumes are all that are in use, or not undone. Nil before they were read
	// from the directories.
	volumes map[volumeKey]*volume
	// republish has which drivers want their volumes published again and again.
	republish map[string]answer
}

// New returns a Manager; drivers are not looked for before Run.
func New(config Config, deps Deps) *Manager {
	return &Manager{config: config, Deps: deps, registry: filepath.Join(config.Root, "plugins_registry"),
		wake: make(chan struct{}, 1), drivers: map[string]*driver{}, changed: make(chan struct{}), republish: map[string]answer{}}
}

// Run registers drivers and undoes what is left of volumes until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { m.initCSINode(ctx) })
	parts.Go(func() { m.watchRegistry(ctx) })
	parts.Go(func() { m.learnAttachable(ctx) })
	m.unstageUnused(ctx)
}

// podsDir has the pods' directories.
func (m *Manager) podsDir() string { return filepath.Join(m.config.Root, "pods") }

// volumesDir is where a pod's volumes of CSI drivers are.
func (m *Manager) volumesDir(uid pod.UID) string {
	return filepath.Join(m.podsDir(), string(uid), "volumes", "kubernetes.io~csi")
}

// at is called before each step that changes something.
func (m *Manager) at(what string) error {
	if m.step == nil {
		return nil
	}
	return m.step(what)
}

// retry calls f until it succeeds or ctx ends, with growing pauses.
func retry(ctx context.Context, first, longest time.Duration, f func() error) error {
	for delay := first; ; delay = min(2*delay, longest) {
		err := f()
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !sleep.For(ctx, delay) {
			return err
		}
	}
}
