package simcluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent"
	"nodelet/agent/kubeapi"
	"nodelet/agent/pod"
	"nodelet/agent/volume"
	"nodelet/fakeruntime"
)

// NodeGroup is a number of nodes that are alike.
type NodeGroup struct {
	// Name is the prefix of the nodes' names: name-0000, name-0001… A second
	// group of the same name counts on.
	Name  string
	Count int
	// Capacity is what each node has. What is missing of CPU, memory,
	// ephemeral storage and pods is 8, 32 GiB, 100 GiB and 110.
	Capacity v1.ResourceList
	Labels   map[string]string
	Taints   []v1.Taint
}

// The addresses of the simulated network. No packet is ever sent to them.
var (
	podNetwork  = netip.MustParsePrefix("10.128.0.0/9")
	nodeNetwork = netip.MustParsePrefix("172.16.0.0/12")
)

const (
	// firstNodeAddress leaves the start of nodeNetwork to the control plane.
	firstNodeAddress = 256
	// minPodAddresses is the size of the smallest pod network of a node.
	minPodAddresses = 256
	// nodesPerTransport bounds how many agents share connections: enough for
	// few connections, little enough for their watches to fit into one.
	nodesPerTransport = 128
)

// fleet is all nodes of a cluster.
type fleet struct {
	cluster *Cluster
	// hub is nil with faithful API load.
	hub *hub

	mu     sync.Mutex
	nodes  map[string]*simNode
	counts map[string]int
	script fakeruntime.Script
	// podAddresses is how many addresses of podNetwork are given out.
	podAddresses uint32
	// stopped: no more nodes.
	stopped bool
}

// simNode is one simulated machine, and the agent on it.
type simNode struct {
	name    string
	machine *machine
	runtime *fakeruntime.Runtime
	volumes *volume.Memory
	link    *link
	config  agent.Config
	deps    agent.Deps

	mu sync.Mutex
	// fault is what is wrong with the machine, "" for nothing. Guarded by mu.
	fault Fault
	// stop ends the agent and waits for it; nil while none runs. Guarded by mu.
	stop func()
	// ended: the cluster is stopped, no agent is started any more. Guarded by mu.
	ended bool
}

var errStopped = errors.New("the cluster is stopped")

func newFleet(c *Cluster) *fleet {
	return &fleet{cluster: c, nodes: map[string]*simNode{}, counts: map[string]int{}, script: c.options.Script}
}

// AddNodes adds a group of nodes and returns when their agents are started,
// which is some time before the nodes are Ready. On an error the nodes that were
// started stay.
func (c *Cluster) AddNodes(ctx context.Context, g NodeGroup) error {
	if g.Name == "" {
		return errors.New("adding nodes: the group has no name")
	}
	if g.Count < 0 {
		return fmt.Errorf("adding nodes %s: count %d: must not be negative", g.Name, g.Count)
	}
	for range g.Count {
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("adding nodes %s: %w", g.Name, err)
		}
		n, err := c.fleet.add(&g)
		if err != nil {
			return fmt.Errorf("adding nodes %s: %w", g.Name, err)
		}
		n.mu.Lock()
		err = c.fleet.startAgent(n)
		n.mu.Unlock()
		if err != nil {
			return fmt.Errorf("adding node %s: %w", n.name, err)
		}
	}
	return nil
}

// add makes the group's next node.
func (f *fleet) add(g *NodeGroup) (*simNode, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return nil, errStopped
	}
	index := len(f.nodes)
	name := fmt.Sprintf("%s-%04d", g.Name, f.counts[g.Name])
	if f.nodes[name] != nil {
		return nil, fmt.Errorf("there is a node %s already", name)
	}
	n, err := f.newNode(name, index, g)
	if err != nil {
		return nil, err
	}
	f.nodes[name] = n
	f.counts[g.Name]++
	return n, nil
}

// newNode makes the index-th machine, with the fleet's lock held.
func (f *fleet) newNode(name string, index int, g *NodeGroup) (*simNode, error) {
	client, err := f.cluster.proxy.config(nodeUser(name), fmt.Sprintf("nodes-%d", index/nodesPerTransport))
	if err != nil {
		return nil, err
	}
	n := &simNode{name: name, link: newLink(client.Transport)}
	client.Transport = n.link
	api, err := kubeapi.New(client, kubeapi.DefaultOptions())
	if err != nil {
		return nil, err
	}
	capacity := g.capacity()
	podCIDR, err := f.podCIDR(capacity.Pods().Value())
	if err != nil {
		return nil, err
	}
	address := addressAt(nodeNetwork, uint32(firstNodeAddress+index))
	random := f.rand(name)
	n.machine = newMachine(name, address, capacity)
	n.runtime = fakeruntime.New(fakeruntime.Options{Rand: random, Script: f.script, PodCIDR: podCIDR, HostIP: address})
	n.volumes = volume.NewMemory()
	n.volumes.Written = n.runtime.Written
	n.config = f.agentConfig(name, g)
	n.deps = agent.Deps{Runtime: n.runtime, Prober: n.runtime, Machine: n.machine, API: api,
		VolumeStore: n.volumes, Rand: random, Logger: f.agentLog()}
	if f.hub != nil {
		n.deps.Watches = &linkedWatches{hub: f.hub, link: n.link}
	}
	return n, n.config.Validate()
}

func (f *fleet) agentConfig(name string, g *NodeGroup) agent.Config {
	config := agent.DefaultConfig()
	config.NodeName = name
	// As kubeadm sets it; nothing answers there.
	config.ClusterDNS, config.ClusterDomain = []string{"10.96.0.10"}, "cluster.local"
	config.ResolvConf, config.PodLogsDir = "", ""
	config.Labels = maps.Clone(g.Labels)
	config.RegisterWithTaints = slices.Clone(g.Taints)
	pods := g.capacity()[v1.ResourcePods]
	config.MaxPods = int(pods.Value())
	if change := f.cluster.options.Agent; change != nil {
		change(&config)
	}
	return config
}

// startAgent starts an agent on the node, with the node's lock held.
func (f *fleet) startAgent(n *simNode) error {
	if n.ended {
		return errStopped
	}
	a, err := agent.New(n.config, n.deps)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		err := a.Run(ctx)
		if ctx.Err() == nil {
			cancel()
			f.cluster.fail(fmt.Errorf("the agent of node %s ended by itself: %w", n.name, errors.Join(errEnded, err)))
		}
	}()
	return nil
}

// stop ends all agents as if their processes were killed, and waits for them.
func (f *fleet) stop() {
	f.mu.Lock()
	f.stopped = true
	nodes := slices.Collect(maps.Values(f.nodes))
	f.mu.Unlock()
	var stopping sync.WaitGroup
	for _, n := range nodes {
		n.link.Cut()
	}
	for _, n := range nodes {
		stopping.Go(func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.ended = true
			n.stopAgent()
		})
	}
	stopping.Wait()
}

// stopAgent ends the agent, if one runs, with the node's lock held.
func (n *simNode) stopAgent() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

func (f *fleet) node(name string) (*simNode, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	if n == nil {
		return nil, fmt.Errorf("there is no node %s", name)
	}
	return n, nil
}

// Nodes returns the names of all nodes that were added, in order.
func (c *Cluster) Nodes() []string {
	c.fleet.mu.Lock()
	defer c.fleet.mu.Unlock()
	return slices.Sorted(maps.Keys(c.fleet.nodes))
}

// ReadVolume returns a file of a volume of a pod on a node, as its containers see it,
// or fs.ErrNotExist.
func (c *Cluster) ReadVolume(node string, uid types.UID, volume, path string) (string, error) {
	n, err := c.fleet.node(node)
	if err != nil {
		return "", err
	}
	return n.volumes.ReadFile(pod.UID(uid), volume, path)
}

// SetScript has all containers, those that run too, behave otherwise from now on.
func (c *Cluster) SetScript(script fakeruntime.Script) {
	f := c.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = script
	for _, n := range f.nodes {
		n.runtime.SetScript(script)
	}
}

// Violations returns what the agents have done to the fake runtimes that a
// correct agent never does, by node.
func (c *Cluster) Violations() []string {
	f := c.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(f.nodes)) {
		for _, v := range f.nodes[name].runtime.Violations() {
			all = append(all, "node "+name+": "+v)
		}
	}
	return all
}

// rand is the node's source of randomness: it hangs on the seed and the name
// alone, not on when the node was added.
func (f *fleet) rand(name string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(name))
	return rand.New(rand.NewPCG(f.cluster.options.Seed, h.Sum64()))
}

// agentLog is where the agents' logs go: what an agent warns of is, in a
// simulation, mostly what the scenario does to it.
func (f *fleet) agentLog() *slog.Logger { return slog.New(quiet{f.cluster.log.Handler()}) }

// podCIDR gives out the next pod network of a node for so many pods: twice as
// many addresses, so that one is not used again at once.
func (f *fleet) podCIDR(pods int64) (netip.Prefix, error) {
	need := max(2*uint64(max(pods, 0)), minPodAddresses)
	width := bits.Len64(need - 1)
	free := uint64(1) << (32 - podNetwork.Bits())
	start := (uint64(f.podAddresses) + 1<<width - 1) &^ (1<<width - 1)
	if start+1<<width > free {
		return netip.Prefix{}, fmt.Errorf("no addresses left in the pod network %s", podNetwork)
	}
	f.podAddresses = uint32(start + 1<<width)
	return netip.PrefixFrom(addressAt(podNetwork, uint32(start)), 32-width), nil
}

// addressAt is an address of an IPv4 network by its number.
func addressAt(p netip.Prefix, number uint32) netip.Addr {
	first := p.Addr().As4()
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(first[:])+number)
	return netip.AddrFrom4(a)
}

// capacity is the group's capacity with what is missing filled in.
func (g *NodeGroup) capacity() v1.ResourceList {
	all := v1.ResourceList{
		v1.ResourceCPU:              resource.MustParse("8"),
		v1.ResourceMemory:           resource.MustParse("32Gi"),
		v1.ResourceEphemeralStorage: resource.MustParse("100Gi"),
		v1.ResourcePods:             resource.MustParse("110"),
	}
	maps.Copy(all, g.Capacity)
	return all
}
