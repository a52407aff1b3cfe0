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
// again; all else stays.
type World struct {
	Server *apitest.Server
	// Runtime and Prober are the machine's.
	Runtime podruntime.Runtime
	Prober  probe.Target
	// Store is where volumes live; nil for directories below RootDir.
	Store   volume.Store
	RootDir string
	// Outcome and Disorder are what goes wrong on the way to the API server.
	Outcome  func(*http.Request) apitest.Outcome
	Disorder apitest.Disorder
	Rand     *rand.Rand
	Log      *slog.Logger

	mu   sync.Mutex
	stop func()
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

// StartAgent starts an agent; there must be none.
func (w *World) StartAgent() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	link := w.Server.NewLink(w.Outcome)
	client, err := link.Client()
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
	a, err := agent.New(config, agent.Deps{Runtime: w.Runtime, Prober: w.Prober, Machine: machine{}, API: client,
		Watches: w.Server.Watches(w.Disorder), VolumeStore: w.Store,
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
	w.stop = func() { link.Cut(); cancel(); <-done }
	return nil
}

// KillAgent ends the agent as if its process were killed: what it has asked the
// runtime for may still be done.
func (w *World) KillAgent() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// Observed is what the runtime has of a pod.
func (w *World) Observed(p *v1.Pod) (pod.Observed, error) {
	return w.Runtime.InspectPod(context.Background(), pod.UID(p.UID))
}
