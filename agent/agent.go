package agent

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/admit"
	"nodelet/agent/csi"
	"nodelet/agent/desired"
	"nodelet/agent/kubeapi"
	"nodelet/agent/mirror"
	"nodelet/agent/node"
	"nodelet/agent/observe"
	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
	"nodelet/agent/publish"
	"nodelet/agent/pulled"
	"nodelet/agent/source"
	"nodelet/agent/volume"
	"nodelet/agent/worker"
)

// Deps is what an agent stands on: all that differs between a production node
// and a simulated one.
type Deps struct {
	// Runtime runs the pods.
	Runtime podruntime.Runtime
	// Prober is what network probes reach.
	Prober probe.Target
	// Machine tells the machine's facts.
	Machine node.Machine
	// API is the connection to the API server, as this node; nil for an agent
	// without one, which runs static pods alone.
	API *kubeapi.Client
	// Watches follows the API server's objects; nil for API's own watches.
	Watches kubeapi.Watches
	// HostFiles are the machine's; nil where pods are told of none.
	HostFiles HostFiles
	// CSI says that the machine may have CSI drivers, which register below the
	// configuration's RootDir.
	CSI bool
	// VolumeStore is where the pods' volumes live; nil for directories and mounts
	// below the configuration's RootDir, where what is to be remembered is then too.
	VolumeStore volume.Store
	// Rand is the source of all of the agent's randomness. New draws from it
	// and keeps no reference.
	Rand *rand.Rand
	// Logger gets the agent's log; nil for none.
	Logger *slog.Logger
}

// Agent is one node.
type Agent struct {
	config Config
	deps   Deps

	desired   *desired.Set
	mirrors   *mirror.Keeper
	observer  *observe.Observer
	prober    *probe.Prober
	publisher *publish.Publisher
	node      *node.Manager
	worker    *worker.Worker
	recorder  *kubeapi.Recorder
	objects   *kubeapi.Objects
	volumes   *volume.Manager
	storage   *node.LocalStorage
	pulled    *pulled.Records
	// csi is nil where there are no CSI drivers.
	csi *csi.Manager
	// static are the sources of static pods.
	static []func(context.Context)
}

// New wires an agent. Nothing happens before Run. An error names every fault of
// the configuration.
func New(config Config, deps Deps) (*Agent, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("agent configuration: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case deps.standalone():
		deps.Watches = noWatches{}
	case deps.Watches == nil:
		deps.Watches = deps.API
	}
	deps.Logger = deps.Logger.With("node", config.NodeName)
	a := &Agent{config: config, deps: deps}
	var err error
	if a.pulled, err = pulled.New(a.pulledDir(), config.ImagePulls, deps.Logger); err != nil {
		return nil, err
	}
	a.wire()
	return a, nil
}

// Run is the node's life until ctx ends. It returns when everything that it
// started has ended; the pods go on running.
func (a *Agent) Run(ctx context.Context) error {
	defer a.recorder.Shutdown()
	defer a.objects.Stop()
	var parts sync.WaitGroup
	defer parts.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	parts.Go(func() { a.observer.Run(ctx) })
	parts.Go(func() { a.node.Run(ctx) })
	parts.Go(func() { a.prober.Run(ctx) })
	parts.Go(func() { a.volumes.Run(ctx) })
	parts.Go(func() { a.storage.Run(ctx) })
	if a.csi != nil {
		parts.Go(func() { a.csi.Run(ctx) })
	}
	// What runs must be known before anything is planned.
	select {
	case <-ctx.Done():
		return nil
	case <-a.observer.Synced():
	}
	// Static pods run without an API server, so for their admission it is enough
	// to know what would be registered.
	select {
	case <-ctx.Done():
		return nil
	case <-a.node.Described():
	}
	parts.Go(func() { a.worker.Run(ctx) })
	for _, run := range a.static {
		parts.Go(func() { run(ctx) })
	}
	if a.deps.standalone() {
		<-ctx.Done()
		return nil
	}
	parts.Go(func() { a.publisher.Run(ctx) })
	// The others were bound to the node as the API server has it: only that one
	// has all labels.
	select {
	case <-ctx.Done():
		return nil
	case <-a.node.Registered():
	}
	parts.Go(func() { a.mirrors.Run(ctx) })
	pods := source.NewAPI(a.desired, a.mirrors, a.publisher.OnPod)
	parts.Go(func() { a.deps.Watches.WatchNode(ctx, a.config.NodeName, a.node) })
	parts.Go(func() { a.deps.Watches.WatchServices(ctx) })
	a.deps.Watches.WatchPods(ctx, a.config.NodeName, pods)
	return nil
}

// Healthy returns an error that says which part seems to be stuck, or nil. It
// may be called at any time. A runtime or an API server that is down is none of
// it: the Node says so, and a restart of the agent would not help.
func (a *Agent) Healthy() error { return a.node.Healthy() }

// rand returns a source of its own for one part: a rand.Rand has one user.
func (a *Agent) rand() *rand.Rand {
	return rand.New(rand.NewPCG(a.deps.Rand.Uint64(), a.deps.Rand.Uint64()))
}

// wire makes the parts, each with the others' ends that it needs.
func (a *Agent) wire() {
	log := a.deps.Logger
	mark := func(uid pod.UID) { a.worker.Mark(uid) }
	a.recorder = a.deps.API.NewRecorder(a.config.NodeName)
	a.objects = a.deps.API.NewObjects(func(uid pod.UID) {
		a.worker.Retry(uid)
		a.volumes.ObjectChanged(uid)
	})
	volumes := volume.Deps{
		Objects: objects{a.objects}, Tokens: tokens{a.deps.API}, Claims: a.deps.API, Store: a.deps.VolumeStore, Event: a.event, Rand: a.rand(), Log: log,
		TrustBundles: a.deps.API, Layers: a.layers,
		Node: func() *v1.Node { return a.node.AnyNode() }}
	if a.deps.CSI && !a.deps.standalone() {
		a.csi = a.newCSI()
		volumes.CSI = a.csi
	}
	a.volumes = volume.New(volume.Config{Root: a.config.RootDir, SyncPeriod: a.config.SyncFrequency}, volumes)

	a.observer = observe.New(observe.Config{
		RelistPeriod: a.config.RelistPeriod,
		Timeout:      a.config.RuntimeRequestTimeout,
		RetryPeriod:  observe.DefaultConfig().RetryPeriod,
	}, a.deps.Runtime, mark, log)
	a.desired = desired.New(a.sources(), a.admit, desired.Hooks{
		Changed: func(uid pod.UID) {
			mark(uid)
			if d, ok := a.desired.Get(uid); ok {
				a.volumes.Update(d.Pod)
				a.storage.Update(d.Pod)
			}
		},
		// What no source wants is ended now, and its files are removed.
		Ready: func() {
			for _, uid := range slices.Concat(a.observer.UIDs(), a.volumes.Orphans()) {
				mark(uid)
			}
			a.mirrors.MarkAll()
		},
		Static: func(name types.NamespacedName) { a.mirrors.Mark(name) },
	})
	a.storage = node.NewLocalStorage(node.LocalStorageDeps{Active: a.desired.Active, Usage: a.volumes.Usage,
		Evict: a.desired.Evict, Log: log})
	a.wireStatic()
	a.mirrors = mirror.New(mirror.Deps{API: a.deps.API, Desired: a.desired,
		Node: func() *v1.Node { return a.node.Node() }, Log: log})
	a.publisher = publish.New(a.deps.API, a.mirrors.Mirror, mark, log)
	a.prober = probe.New(probe.Deps{Target: a.deps.Prober, Exec: execer{a.deps.Runtime}, Rand: a.rand(),
		Changed: mark, Event: a.event, Log: log})
	a.node = a.newNode()
	a.worker = a.newWorker()
}

// layers tells where an image is on the machine.
func (a *Agent) layers(ctx context.Context, ref string) ([]string, error) {
	image, err := a.deps.Runtime.Image(ctx, ref)
	return image.Layers, err
}

// pulledDir is where the records of pulled images are; "" where all is in memory.
func (a *Agent) pulledDir() string {
	if a.deps.VolumeStore != nil {
		return ""
	}
	return filepath.Join(a.config.RootDir, "image_manager")
}

// sources are where the configuration has pods come from.
func (a *Agent) sources() []pod.Source {
	var sources []pod.Source
	if !a.deps.standalone() {
		sources = append(sources, pod.SourceAPI)
	}
	if a.config.StaticPodPath != "" {
		sources = append(sources, pod.SourceFile)
	}
	if a.config.StaticPodURL != "" {
		sources = append(sources, pod.SourceHTTP)
	}
	return sources
}

// wireStatic makes the sources of static pods that are configured.
func (a *Agent) wireStatic() {
	c := &a.config
	if c.StaticPodPath != "" {
		a.static = append(a.static, source.NewFile(source.FileConfig{Path: c.StaticPodPath,
			NodeName: c.NodeName, Period: c.FileCheckFrequency}, a.desired, a.deps.Logger).Run)
	}
	if c.StaticPodURL != "" {
		a.static = append(a.static, source.NewHTTP(source.HTTPConfig{URL: c.StaticPodURL, Header: c.StaticPodURLHeader,
			NodeName: c.NodeName, Period: c.HTTPCheckFrequency}, a.desired, a.deps.Logger).Run)
	}
}

func (a *Agent) newCSI() *csi.Manager {
	config := csi.DefaultConfig()
	config.NodeName, config.Root = a.config.NodeName, a.config.RootDir
	return csi.New(config, csi.Deps{API: a.deps.API, Log: a.deps.Logger,
		Node: func() *v1.Node { return a.node.Node() }, Report: func() { a.node.Update() }})
}

func (a *Agent) newNode() *node.Manager {
	c := &a.config
	var inUse func() ([]v1.UniqueVolumeName, bool)
	if a.csi != nil {
		inUse = a.csi.InUse
	}
	var api node.API
	if !a.deps.standalone() {
		api = a.deps.API
	}
	return node.New(node.Config{
		Name: c.NodeName, Labels: c.Labels, Taints: c.RegisterWithTaints, ProviderID: c.ProviderID,
		RegisterNode: c.RegisterNode, Version: c.Version, MaxPods: c.MaxPods,
		RecursiveReadOnly:     a.volumes.RecursiveReadOnly(),
		ExternalCloudProvider: c.CloudProvider == CloudProviderExternal, NodeIPs: c.NodeIPs,
		StatusUpdateFrequency: c.NodeStatusUpdateFrequency, StatusReportFrequency: c.NodeStatusReportFrequency,
		LeaseDuration: c.NodeLeaseDuration, RuntimeTimeout: c.RuntimeRequestTimeout,
	}, node.Deps{API: api, Machine: a.deps.Machine, Runtime: a.deps.Runtime,
		VolumesInUse: inUse, Event: a.recorder.NodeEvent, Rand: a.rand(), Log: a.deps.Logger})
}

func (a *Agent) newWorker() *worker.Worker {
	config := worker.DefaultConfig()
	config.Backoff = plan.DefaultBackoff()
	config.Backoff.RestartMax = a.config.MaxContainerRestartPeriod
	config.MaxParallelPulls = a.config.MaxParallelImagePulls
	config.RuntimeName = a.config.ContainerRuntime
	config.RecursiveReadOnly = a.volumes.RecursiveReadOnly()
	config.ClusterDNS = podenv.ClusterDNS{IPs: a.config.ClusterDNS, Domain: a.config.ClusterDomain}
	config.ResolvConf = a.config.ResolvConf
	config.PodLogsDirectory = a.config.PodLogsDir
	if a.config.CgroupsPerQOS {
		config.CgroupOf = func(p *v1.Pod) string {
			return pod.Cgroup(a.config.CgroupRoot, a.config.CgroupDriver == CgroupDriverSystemd, p)
		}
	}
	return worker.New(config, worker.Deps{
		Desired: a.desired, Observed: a.observer, Probes: a.prober, Publisher: a.publisher,
		Sandboxes: a.deps.Runtime, Containers: a.deps.Runtime, Images: a.deps.Runtime,
		Hooks:  hooks{&probe.Hooks{Target: a.deps.Prober, Exec: execer{a.deps.Runtime}, Event: a.event}},
		Pulled: a.pulled, Volumes: a.volumes, Objects: objects{a.objects},
		Host:  host{a.node, a.deps.Watches, a.deps.HostFiles, a.deps.Logger},
		Event: a.event, Rand: a.rand(), Log: a.deps.Logger,
	})
}

// admit says why the node refuses a pod, given its newest Node object, or for a
// static pod the one that is to be registered.
func (a *Agent) admit(active []*v1.Pod, p *v1.Pod) *pod.Rejection {
	return admit.Pod(a.node.AnyNode(), active, p)
}

// event passes an event on to the pod's owner, and to the log.
func (a *Agent) event(e pod.Event) {
	level := slog.LevelInfo
	if e.Type == v1.EventTypeWarning {
		level = slog.LevelWarn
	}
	a.deps.Logger.Log(context.Background(), level, e.Message,
		"reason", e.Reason, "pod", pod.FullName(e.Pod), "container", e.Container)
	a.recorder.PodEvent(e)
}

// execer makes exec probes through the runtime's streams.
type execer struct{ podruntime.Streams }

// hooks are lifecycle hooks as the worker asks for them.
type hooks struct{ *probe.Hooks }

// RunHook implements worker.Hooks.
func (h hooks) RunHook(ctx context.Context, p *v1.Pod, c *v1.Container, id, podIP string, handler *v1.LifecycleHandler) error {
	return h.Run(ctx, probe.HookRequest{Pod: p, Container: c, ContainerID: id, PodIP: podIP, Handler: handler})
}

// maxProbeOutput bounds what is kept of a probe's output, as with the kubelet.
const maxProbeOutput = 10 << 10

// ProbeExec runs a command and returns what it wrote.
func (e execer) ProbeExec(ctx context.Context, containerID string, command []string) (int, string, error) {
	var out bytes.Buffer
	limited := &limitedWriter{w: &out, left: maxProbeOutput}
	code, err := e.Exec(ctx, containerID, podruntime.ExecOptions{Command: command,
		StreamOptions: podruntime.StreamOptions{Stdout: limited, Stderr: limited}})
	return code, out.String(), err
}

// limitedWriter keeps the first bytes and takes the rest without keeping it.
// Standard output and error may write at once.
type limitedWriter struct {
	mu   sync.Mutex
	w    *bytes.Buffer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(p), l.left)
	l.left -= n
	l.w.Write(p[:n])
	return len(p), nil
}
