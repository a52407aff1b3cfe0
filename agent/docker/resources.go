package docker

import (
	"strings"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/qos"

	"nodelet/agent/pod"
)

// resourcesOf turns requests and limits into the engine's terms.
func resourcesOf(r v1.ResourceRequirements) container.Resources {
	want := pod.ResourcesOf(r)
	// No swap beyond the memory.
	res := container.Resources{CPUShares: want.CPUShares, CPUQuota: want.CPUQuota, Memory: want.Memory, MemorySwap: want.Memory}
	if res.CPUQuota > 0 {
		res.CPUPeriod = pod.QuotaPeriod
	}
	return res
}

// observedResources reads back what a container has.
func observedResources(r *container.Resources) *pod.Resources {
	return &pod.Resources{CPUShares: r.CPUShares, CPUQuota: r.CPUQuota, Memory: r.Memory}
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
