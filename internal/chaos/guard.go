package chaos

import (
	"context"
	"fmt"
	"sync"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// guard watches what the agents do and notes what no agent may ever do. All
// methods may be called concurrently.
type guard struct {
	runtime podruntime.Runtime
	trace   *Trace

	mu sync.Mutex
	// pods and names are the pods' and the containers' names by the IDs of what
	// was made for them.
	pods, names map[string]string
	// orphans are the pods of which an agent had something made when it died: it
	// may appear when the next agent has looked already.
	orphans map[string]bool
	faults  []string
}

// orphan notes that the agent has died while something of a pod was being made.
func (g *guard) orphan(pod string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.orphans[pod] = true
}

func (g *guard) isOrphan(pod string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.orphans[pod]
}

func (g *guard) fault(of, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	g.trace.Add(of, "WRONG: %s", text)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, fmt.Sprintf("pod %s: %s", of, text))
}

// see notes whose the containers are.
func (g *guard) see(o *pod.Observed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range o.Sandboxes {
		g.pods[s.ID] = o.Name
	}
	for _, c := range o.Containers {
		g.pods[c.ID], g.names[c.ID] = o.Name, fmt.Sprintf("%s#%d", c.Name, c.Attempt)
	}
}

func (g *guard) podOf(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pods[id]
}

func (g *guard) nameOf(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.names[id]
}

// create is called before a container is made: it follows another one only if
// that has ended in a way after which it is to be started again, or was another by
// its definition.
func (g *guard) create(p *v1.Pod, c *v1.Container, attempt uint32, sandbox string) {
	o, err := g.runtime.InspectPod(context.Background(), pod.UID(p.UID))
	if err != nil {
		g.fault(p.Name, "it cannot be inspected: %v", err)
		return
	}
	last := o.Container(c.Name)
	_, init := pod.ContainerSpec(p, c.Name)
	switch {
	case last == nil || last.State == pod.ContainerCreated:
	case last.State != pod.ContainerExited && last.Attempt == attempt && g.isOrphan(p.Name):
		// The runtime refuses.
	case last.State != pod.ContainerExited:
		g.fault(p.Name, "container %s is made again, as number %d, while number %d runs", c.Name, attempt, last.Attempt)
	case pod.EphemeralContainer(p, c.Name) != nil:
		g.fault(p.Name, "ephemeral container %s is made again, as number %d", c.Name, attempt)
	case init && last.SandboxID != sandbox:
	case last.Hash != pod.ContainerHash(c):
	case !pod.ShouldRestart(p, c, last.ExitCode):
		g.fault(p.Name, "container %s is made again, as number %d, after number %d ended with %d", c.Name, attempt, last.Attempt, last.ExitCode)
	}
}

// write is called before a pod's status is written, and with a nil status before
// its deletion is completed.
func (g *guard) write(p *v1.Pod, status *v1.PodStatus) error {
	if status != nil {
		g.trace.Add(p.Name, "status: %s", Describe(status))
	}
	o, err := g.runtime.InspectPod(context.Background(), pod.UID(p.UID))
	switch {
	case err != nil:
		return fmt.Errorf("inspecting it: %w", err)
	case status == nil && !o.Empty() && !g.isOrphan(p.Name):
		return fmt.Errorf("its deletion is completed, but the runtime has %+v", o)
	case status != nil && pod.IsTerminal(status.Phase) && o.AnyRunning():
		return fmt.Errorf("phase %s while something of it runs: %+v", status.Phase, o.Containers)
	}
	return nil
}

// Faults are what the agents did and never may.
func (g *guard) Faults() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.faults...)
}
