package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent"
	"nodelet/agent/node"
	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
	"nodelet/agent/volume"
	"nodelet/internal/apitest"
)

// NodeName is the name of the one node.
const NodeName = "chaos"

// World is an API server and a machine. Its agent may be killed and started
// again; all else stays. The exported fields are set before the first agent.
type World struct {
	Server *apitest.Server
	// Runtime and Prober are the machine's.
	Runtime podruntime.Runtime
	Prober  probe.Target
	// Store is where volumes live; nil for directories below RootDir.
	Store   volume.Store
	RootDir string
	// Faults is what goes wrong; nil for nothing.
	Faults *Faults
	Rand   *rand.Rand
	Log    *slog.Logger
	// Trace is what happened.
	Trace Trace

	guard *guard
	// dead takes the agents that die by a fault.
	dead chan struct{}

	mu   sync.Mutex
	stop func()
}

// NewWorld returns a World without an agent.
func NewWorld(runtime podruntime.Runtime, prober probe.Target) *World {
	w := &World{Runtime: runtime, Prober: prober, dead: make(chan struct{}, 1)}
	w.guard = &guard{runtime: runtime, trace: &w.Trace, pods: map[string]string{}, names: map[string]string{}, orphans: map[string]bool{}}
	w.Server = apitest.New(w.guard.write)
	return w
}

// Wrong is what the agents have done and never may.
func (w *World) Wrong() []string { return append(w.guard.Faults(), w.Server.Faults()...) }

// Deaths tells of agents that have died by a fault; KillAgent is then to be called.
func (w *World) Deaths() <-chan struct{} { return w.dead }

// die has an agent die at this moment: nothing that it does has an effect any more.
func (w *World) die(l *link) {
	if !l.cut.Swap(true) {
		select {
		case w.dead <- struct{}{}:
		default:
		}
	}
}

// machine is the machine of a World.
type machine struct{}

// Facts implements node.Machine.
func (machine) Facts(context.Context) (node.Facts, error) {
	return node.Facts{
		Capacity: v1.ResourceList{v1.ResourceCPU: resource.MustParse("64"), v1.ResourceMemory: resource.MustParse("256Gi"),
			v1.ResourceEphemeralStorage: resource.MustParse("1Ti"), v1.ResourcePods: resource.MustParse("1000")},
		Addresses: []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "192.0.2.1"}, {Type: v1.NodeHostName, Address: NodeName}},
		Info:      v1.NodeSystemInfo{OperatingSystem: "linux", Architecture: runtime.GOARCH, MachineID: NodeName, BootID: NodeName},
	}, nil
}

// StartAgent starts an agent unless there is one.
func (w *World) StartAgent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		return nil
	}
	l := &link{Runtime: w.Runtime, world: w}
	toServer := w.Server.NewLink(w.outcome(l))
	client, err := toServer.Client()
	if err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	config := agent.DefaultConfig()
	config.NodeName = NodeName
	config.MaxPods = 1000
	config.ResolvConf, config.PodLogsDir = "", ""
	config.CgroupsPerQOS = false
	config.RootDir = w.RootDir
	// Crash loops last long enough with the shortest delay there is.
	config.MaxContainerRestartPeriod = time.Second
	a, err := agent.New(config, agent.Deps{Runtime: l, Prober: w.Prober, Machine: machine{}, API: client,
		Watches: w.Server.Watches(w.Faults.disorder()), VolumeStore: w.Store,
		Rand: rand.New(rand.NewPCG(w.Rand.Uint64(), w.Rand.Uint64())), Logger: w.Log})
	if err != nil {
		return fmt.Errorf("making an agent: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It ends with its context alone.
		_ = a.Run(ctx)
	}()
	w.Trace.Add("", "an agent starts")
	w.stop = func() { l.cut.Store(true); toServer.Cut(); cancel(); <-done }
	return nil
}

// outcome says what becomes of an agent's calls of the API server.
func (w *World) outcome(l *link) func(*http.Request) apitest.Outcome {
	if w.Faults == nil {
		return nil
	}
	return func(r *http.Request) apitest.Outcome {
		if l.cut.Load() {
			return apitest.Refused
		}
		return w.Faults.api(r, func() { w.die(l) })
	}
}

// KillAgent ends the agent as if its process were killed: what it has asked the
// runtime for may still be done.
func (w *World) KillAgent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.stop()
		w.stop = nil
		w.Trace.Add("", "the agent is dead")
	}
}

// Observed is what the runtime has of a pod.
func (w *World) Observed(p *v1.Pod) (pod.Observed, error) {
	return w.Runtime.InspectPod(context.Background(), pod.UID(p.UID))
}
