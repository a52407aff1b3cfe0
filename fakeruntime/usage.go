package fakeruntime

import (
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

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

// Written returns how many bytes a pod's containers have written to one of its
// volumes. What they have written stays when they have ended.
func (r *Runtime) Written(uid pod.UID, volume string) int64 {
	r.lock()
	defer r.unlock()
	p := r.pods[uid]
	if p == nil {
		return 0
	}
	sizes := map[writer]int64{}
	for w, size := range p.written {
		if w.volume == volume {
			sizes[w] = size
		}
	}
	for _, c := range p.containers {
		w := writer{c.Name, volume}
		sizes[w] = max(sizes[w], r.written(c, volume))
	}
	var sum int64
	for _, size := range sizes {
		sum += size
	}
	return sum
}

// written is what an incarnation of a container has written to a volume.
func (r *Runtime) written(c *container, volume string) int64 {
	mounted := slices.ContainsFunc(c.spec.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == volume && !m.ReadOnly })
	if c.StartedAt.IsZero() || !mounted {
		return 0
	}
	end := r.now
	if c.State == pod.ContainerExited {
		end = c.FinishedAt
	}
	var size int64
	for _, w := range r.behavior(c).Writes {
		if w.Volume == volume && !end.Before(c.StartedAt.Add(w.After)) {
			size += w.Size.Value()
		}
	}
	return size
}

// keepWritten notes what a container that is removed leaves in its pod's volumes.
func (r *Runtime) keepWritten(c *container) {
	for _, w := range r.behavior(c).Writes {
		size := r.written(c, w.Volume)
		if size == 0 {
			continue
		}
		if c.owner.written == nil {
			c.owner.written = map[writer]int64{}
		}
		by := writer{c.Name, w.Volume}
		c.owner.written[by] = max(c.owner.written[by], size)
	}
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
