package pod

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Resources are what a container's requests and limits become in the kernel.
type Resources struct {
	// CPUShares are its weight, 2 to 262144; CPUQuota is what it may have in µs of
	// each QuotaPeriod, 0 for no limit.
	CPUShares, CPUQuota int64
	// Memory is its limit in bytes, 0 for none.
	Memory int64
}

// QuotaPeriod is the time in µs in which a container may use its CPUQuota.
const QuotaPeriod = 100_000

const (
	minQuota  = 1_000 // µs
	minShares = 2
	maxShares = 262_144
)

// ResourcesOf turns requests and limits into shares, quota and memory, as the
// kubelet does.
func ResourcesOf(r v1.ResourceRequirements) Resources {
	var res Resources
	cpu, requested := r.Requests[v1.ResourceCPU]
	limit, limited := r.Limits[v1.ResourceCPU]
	if !requested && limited {
		cpu = limit
	}
	res.CPUShares = min(max(cpu.MilliValue()*1024/1000, minShares), maxShares)
	if limited && !limit.IsZero() {
		res.CPUQuota = max(limit.MilliValue()*QuotaPeriod/1000, minQuota)
	}
	if memory, ok := r.Limits[v1.ResourceMemory]; ok {
		res.Memory = memory.Value()
	}
	return res
}

// Actual are the requests and limits of a container that has these resources
// where it is to have those of r: as in r, but for what differs.
func (res Resources) Actual(r v1.ResourceRequirements) v1.ResourceRequirements {
	want := ResourcesOf(r)
	if res == want {
		return r
	}
	r = *r.DeepCopy()
	if _, ok := r.Requests[v1.ResourceCPU]; ok && res.CPUShares != want.CPUShares {
		r.Requests[v1.ResourceCPU] = *resource.NewMilliQuantity((res.CPUShares*1000+1023)/1024, resource.DecimalSI)
	}
	if _, ok := r.Limits[v1.ResourceCPU]; ok && res.CPUQuota != want.CPUQuota {
		r.Limits[v1.ResourceCPU] = *resource.NewMilliQuantity(res.CPUQuota*1000/QuotaPeriod, resource.DecimalSI)
	}
	if _, ok := r.Limits[v1.ResourceMemory]; ok && res.Memory != want.Memory {
		r.Limits[v1.ResourceMemory] = *resource.NewQuantity(res.Memory, resource.BinarySI)
	}
	return r
}

// Allocation is what a node grants to a pod's containers, by their names. Only CPU
// and memory count: no others can be resized.
type Allocation map[string]v1.ResourceRequirements

// AllocationOf is what a pod's spec asks for.
func AllocationOf(p *v1.Pod) Allocation {
	a := Allocation{}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			a[list[i].Name] = list[i].Resources
		}
	}
	return a
}

// PublishedAllocation is what a pod's status says was granted; containers of which
// it says nothing are left out.
func PublishedAllocation(p *v1.Pod) Allocation {
	a := Allocation{}
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			if r := list[i].Resources; r != nil {
				a[list[i].Name] = v1.ResourceRequirements{Requests: list[i].AllocatedResources, Limits: r.Limits}
			}
		}
	}
	return a
}

// WithAllocation returns the pod as a lets it be; p itself if that is what it asks
// for.
func WithAllocation(p *v1.Pod, a Allocation) *v1.Pod {
	granted := p
	for l, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			have, ok := a[list[i].Name]
			if !ok || sameCPUAndMemory(list[i].Resources, have) {
				continue
			}
			if granted == p {
				granted = p.DeepCopy()
			}
			c := &[][]v1.Container{granted.Spec.InitContainers, granted.Spec.Containers}[l][i]
			c.Resources.Requests = withCPUAndMemory(c.Resources.Requests, have.Requests)
			c.Resources.Limits = withCPUAndMemory(c.Resources.Limits, have.Limits)
		}
	}
	return granted
}

func sameCPUAndMemory(a, b v1.ResourceRequirements) bool {
	same := func(a, b v1.ResourceList) bool {
		return a.Cpu().Cmp(*b.Cpu()) == 0 && a.Memory().Cmp(*b.Memory()) == 0
	}
	return same(a.Requests, b.Requests) && same(a.Limits, b.Limits)
}

// withCPUAndMemory returns list, which it may change, with CPU and memory as in
// from.
func withCPUAndMemory(list, from v1.ResourceList) v1.ResourceList {
	for _, name := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory} {
		q, ok := from[name]
		switch {
		case !ok:
			delete(list, name)
		case list == nil:
			list = v1.ResourceList{name: q}
		default:
			list[name] = q
		}
	}
	return list
}
