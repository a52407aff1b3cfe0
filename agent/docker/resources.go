package docker

import (
	"strings"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/qos"
)

// What a container's resources become, as with the kubelet.
const (
	quotaPeriod = 100_000 // µs
	minQuota    = 1_000   // µs
	minShares   = 2
	maxShares   = 262_144
)

// resourcesOf turns requests and limits into shares, quota and memory.
func resourcesOf(r v1.ResourceRequirements) container.Resources {
	var res container.Resources
	cpu, requested := r.Requests[v1.ResourceCPU]
	limit, limited := r.Limits[v1.ResourceCPU]
	if !requested && limited {
		cpu = limit
	}
	res.CPUShares = min(max(cpu.MilliValue()*1024/1000, minShares), maxShares)
	if limited && !limit.IsZero() {
		res.CPUPeriod = quotaPeriod
		res.CPUQuota = max(limit.MilliValue()*quotaPeriod/1000, minQuota)
	}
	if memory, ok := r.Limits[v1.ResourceMemory]; ok && !memory.IsZero() {
		res.Memory = memory.Value()
		// No swap beyond it.
		res.MemorySwap = memory.Value()
	}
	return res
}

// OOM scores by quality of service, as with the kubelet.
const (
	guaranteedOOMScore = -997
	bestEffortOOMScore = 1000
)

// oomScoreOf is the container's OOM score adjustment on a machine with so much
// memory in bytes: the more a container asks for, the later it is killed.
func oomScoreOf(p *v1.Pod, c *v1.Container, memory int64) int {
	const systemCritical = 2_000_000_000
	if p.Spec.Priority != nil && *p.Spec.Priority >= systemCritical {
		return guaranteedOOMScore
	}
	switch qosOf(p) {
	case v1.PodQOSGuaranteed:
		return guaranteedOOMScore
	case v1.PodQOSBestEffort:
		return bestEffortOOMScore
	}
	if memory <= 0 {
		return bestEffortOOMScore - 1
	}
	request := c.Resources.Requests.Memory().Value()
	score := int(1000 - 1000*request/memory)
	// Never like a guaranteed one, never like one that asks for nothing.
	return min(max(score, 1000+guaranteedOOMScore), bestEffortOOMScore-1)
}

func qosOf(p *v1.Pod) v1.PodQOSClass {
	if p.Status.QOSClass != "" {
		return p.Status.QOSClass
	}
	return qos.GetPodQOS(p)
}

func lower(s string) string { return strings.ToLower(s) }
