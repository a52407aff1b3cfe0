// Package node keeps this machine's Node object: it registers it
// (register.go), computes its status and writes it when it has changed or the
// report is due (status.go), and keeps its lease. localstorage.go ends pods that use
// more of its disk than they may.
//
// See https://kubernetes.io/docs/reference/node/node-status/. Reasons, messages
// and periods are the kubelet's.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"nodelet/agent/podruntime"
	"nodelet/internal/sleep"
)

// API is what is asked of the API server. Errors are its own, wrapped.
type API interface {
	CreateNode(ctx context.Context, n *v1.Node) (*v1.Node, error)
	GetNode(ctx context.Context, name string) (*v1.Node, error)
	PatchNode(ctx context.Context, old, next *v1.Node) (*v1.Node, error)
	PatchNodeStatus(ctx context.Context, old, next *v1.Node) (*v1.Node, error)
	// RunLease keeps the node's lease until ctx ends.
	RunLease(ctx context.Context, nodeName string, duration time.Duration, failing func())
}

// Machine tells what the machine is.
type Machine interface {
	Facts(ctx context.Context) (Facts, error)
}

// Facts are what a machine is. They rarely change.
type Facts struct {
	// Capacity is all there is; Allocatable what pods may have of it, nil for
	// all.
	Capacity, Allocatable v1.ResourceList
	Info                  v1.NodeSystemInfo
	// Addresses has at least one InternalIP, unless an external cloud provider
	// is to find the addresses.
	Addresses []v1.NodeAddress
}

// Runtime is what is asked of the pod runtime.
type Runtime interface {
	Status(ctx context.Context) (podruntime.Status, error)
	ListImages(ctx context.Context) ([]podruntime.Image, error)
}

// Config says what node to be.
type Config struct {
	Name         string
	Labels       map[string]string
	Taints       []v1.Taint
	ProviderID   string
	RegisterNode bool
	// ExternalCloudProvider registers the node as one that a cloud controller
	// manager has to see to first, and leaves the addresses that it sets.
	ExternalCloudProvider bool
	// NodeIPs are the addresses that an administrator gave the node; may be
	// empty. An external cloud provider is told of them.
	NodeIPs []net.IP
	// Version is the version that the node reports as its kubelet's.
	Version string
	MaxPods int
	// RecursiveReadOnly says that mounts can be read-only with all that is mounted
	// below.
	RecursiveReadOnly bool
	// StatusUpdateFrequency is how often the status is computed,
	// StatusReportFrequency how often it is written though nothing changed.
	StatusUpdateFrequency time.Duration
	StatusReportFrequency time.Duration
	LeaseDuration         time.Duration
	// RuntimeTimeout bounds one question to the runtime.
	RuntimeTimeout time.Duration
}

// Deps is what the manager works with.
type Deps struct {
	// API is nil for a node that has no API server: Run then only keeps AnyNode
	// and HostIPs.
	API     API
	Machine Machine
	Runtime Runtime
	// VolumesInUse are the unique names of the volumes that must not be detached,
	// sorted; false while they are not known. Nil for a node that has none.
	VolumesInUse func() ([]v1.UniqueVolumeName, bool)
	// Event is told what an administrator should hear of.
	Event func(eventType, reason, message string)
	// Rand is used by the manager alone.
	Rand *rand.Rand
	Log  *slog.Logger
}

// Manager keeps one Node. Healthy, Node, HostIPs, Update and the Node handler's
// methods may be called concurrently.
type Manager struct {
	config Config
	Deps
	registered chan struct{}
	described  chan struct{}
	// stirred has an element when the status is to be looked at soon.
	stirred chan struct{}
	// turned is when Run's loop last turned, in Unix ns; 0 before it ran.
	turned atomic.Int64

	mu sync.Mutex
	// node is the newest object that the API server is known to have.
	node *v1.Node
	// unregistered is the Node as it would be created, nil before it was computed.
	unregistered *v1.Node
	hostIPs      []string

	// The rest belongs to the goroutine of Run.

	// reported is when the status was last written; zero before the first time.
	reported time.Time
	// spread is added to the report's period after the status has changed.
	spread       time.Duration
	runtimeSeen  time.Time
	runtimeState podruntime.Status
	runtimeErr   error
}

// New returns a Manager; nothing happens before Run.
func New(config Config, deps Deps) *Manager {
	return &Manager{config: config, Deps: deps, registered: make(chan struct{}), described: make(chan struct{}),
		stirred: make(chan struct{}, 1)}
}

// Registered is closed once the Node exists and its status was written.
func (m *Manager) Registered() <-chan struct{} { return m.registered }

// Described is closed once AnyNode returns a Node: when it is known from the API
// server, or the API server could not be asked for the first time, or there is none.
func (m *Manager) Described() <-chan struct{} { return m.described }

// AnyNode returns the newest known Node object, or as long as there is none the
// one that is to be registered; nil before Described. It must not be changed.
func (m *Manager) AnyNode() *v1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node != nil {
		return m.node
	}
	return m.unregistered
}

// describe computes the Node as it would be created. What cannot be said of the
// machine now is tried again with the registration.
func (m *Manager) describe(ctx context.Context) (*v1.Node, error) {
	n, err := m.initial(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unregistered = n
	return n, nil
}

// Node returns the newest known Node object, which must not be changed; nil
// before it is registered.
func (m *Manager) Node() *v1.Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// HostIPs returns the node's addresses, the primary one first.
func (m *Manager) HostIPs() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hostIPs
}

// NodeSet takes the Node as the API server has it now. What is older than what
// is known, because a watch is behind, is passed over.
func (m *Manager) NodeSet(n *v1.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.node != nil {
		order, err := resourceversion.CompareResourceVersion(m.node.ResourceVersion, n.ResourceVersion)
		if err == nil && order > 0 {
			return
		}
	}
	m.node = n
}

// NodeDeleted tells that somebody deleted the Node. Like the kubelet, the agent
// makes it again only when it is started anew.
func (m *Manager) NodeDeleted() { m.Log.Warn("The Node object was deleted") }

// Update has the status computed soon, and written if it has changed. It does not
// wait.
func (m *Manager) Update() {
	select {
	case m.stirred <- struct{}{}:
	default:
	}
}

// describeRetry is between two tries to find out what the machine is.
const describeRetry = time.Second

// hung is for how long nothing may come of Run's loop: every call in it is
// bounded, and a few in a row may take their whole time.
const hung = 3 * time.Minute

// Healthy returns an error when the node's status has not been looked at for so
// long that it seems to be stuck.
func (m *Manager) Healthy() error {
	turned := m.turned.Load()
	if turned == 0 {
		return nil
	}
	if since := time.Since(time.Unix(0, turned)); since > hung+m.config.StatusUpdateFrequency {
		return fmt.Errorf("the node's status was not looked at for %s", since.Round(time.Second))
	}
	return nil
}

// Run registers the node, writes its status at once and then as due, and keeps
// its lease, until ctx ends.
func (m *Manager) Run(ctx context.Context) {
	if m.API == nil {
		m.runAlone(ctx)
		return
	}
	if !m.register(ctx) {
		return
	}
	m.Event(v1.EventTypeNormal, "Starting", "Starting kubelet.")
	var lease sync.WaitGroup
	defer lease.Wait()
	lease.Go(func() {
		m.API.RunLease(ctx, m.config.Name, m.config.LeaseDuration, func() {
			m.Log.Warn("The node's lease could not be renewed several times in a row")
		})
	})
	ticker := time.NewTicker(m.config.StatusUpdateFrequency)
	defer ticker.Stop()
	first := true
	for {
		m.turned.Store(time.Now().UnixNano())
		if err := m.update(ctx); err != nil && ctx.Err() == nil {
			m.Log.Warn("Could not update the node's status", "err", err)
		} else if first {
			first = false
			close(m.registered)
		}
		// While the node is not ready, look more often: it should not wait ten
		// seconds for its runtime to be asked again.
		wait := ticker.C
		if !m.ready() {
			wait = time.After(min(time.Second, m.config.StatusUpdateFrequency))
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		case <-m.stirred:
		}
	}
}

// runAlone keeps the description of a node that nobody else has.
func (m *Manager) runAlone(ctx context.Context) {
	described := false
	for ctx.Err() == nil {
		m.turned.Store(time.Now().UnixNano())
		wait := m.config.StatusUpdateFrequency
		if _, err := m.describe(ctx); err != nil {
			m.Log.Warn("Could not describe the node", "err", err, "retry", describeRetry)
			wait = describeRetry
		} else if !described {
			described = true
			close(m.described)
		}
		sleep.For(ctx, wait)
	}
}

// ready reports whether the Node's newest status says Ready.
func (m *Manager) ready() bool {
	c := condition(m.Node(), v1.NodeReady)
	return c != nil && c.Status == v1.ConditionTrue
}

func condition(n *v1.Node, t v1.NodeConditionType) *v1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}
