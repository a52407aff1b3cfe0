package fakeruntime

import (
	"slices"
	"strings"
	"time"

	"nodelet/agent/pod"
)

// PodUsage is what a pod's running containers use.
type PodUsage struct {
	UID             pod.UID
	Namespace, Name string
	Containers      []ContainerUsage
}

// ContainerUsage is what one running container uses.
type ContainerUsage struct {
	Name, ID  string
	StartedAt time.Time
	// CPUNanoCores is the rate of use, and CPUCoreNanoSeconds what was used
	// since StartedAt.
	CPUNanoCores, CPUCoreNanoSeconds uint64
	// MemoryBytes is the working set.
	MemoryBytes uint64
}

// Usage returns what is in use now, of all pods that have a running container,
// by UID. A machine without power uses nothing.
func (r *Runtime) Usage() []PodUsage {
	r.lock()
	defer r.unlock()
	var all []PodUsage
	for _, p := range r.pods {
		usage := PodUsage{UID: p.uid, Namespace: p.namespace, Name: p.name}
		for _, c := range p.containers {
			if c.State == pod.ContainerRunning {
				usage.Containers = append(usage.Containers, r.containerUsage(c))
			}
		}
		if len(usage.Containers) > 0 {
			all = append(all, usage)
		}
	}
	slices.SortFunc(all, func(a, b PodUsage) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return all
}

func (r *Runtime) containerUsage(c *container) ContainerUsage {
	b := r.behavior(c)
	milli := uint64(max(b.CPU.MilliValue(), 0))
	age := r.now.Sub(c.StartedAt)
	return ContainerUsage{
		Name: c.Name, ID: c.ID, StartedAt: c.StartedAt,
		CPUNanoCores:       milli * 1e6,
		CPUCoreNanoSeconds: milli * uint64(age.Milliseconds()) * 1000,
		MemoryBytes:        uint64(max(b.Memory.Value(), 0)),
	}
}
