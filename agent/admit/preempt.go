package admit

import (
	"cmp"
	"maps"
	"slices"

	v1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/kubectl/pkg/util/qos"

	"nodelet/agent/pod"
)

// needs are amounts of resources that are still to be freed.
type needs map[v1.ResourceName]int64

// preempt chooses the pods to end so that a critical one has what the node lacks;
// nil if that cannot be done. As few as possible are guaranteed ones, then as few
// as possible burstable, and only then of those that asked for nothing.
func preempt(node *v1.Node, active []*v1.Pod, p *v1.Pod) []pod.UID {
	lack := needs{}
	for _, l := range lacking(node, active, p) {
		lack[l.name] = l.requested - (l.capacity - l.used)
	}
	classes := map[v1.PodQOSClass][]*v1.Pod{}
	for _, a := range active {
		if preemptable(p, a) {
			class := qos.GetPodQOS(a)
			classes[class] = append(classes[class], a)
		}
	}
	bestEffort, burstable, guaranteed := classes[v1.PodQOSBestEffort], classes[v1.PodQOSBurstable], classes[v1.PodQOSGuaranteed]
	if len(lack.without(slices.Concat(bestEffort, burstable, guaranteed))) > 0 {
		return nil
	}
	last := choose(guaranteed, lack.without(slices.Concat(bestEffort, burstable)))
	second := choose(burstable, lack.without(slices.Concat(bestEffort, last)))
	first := choose(bestEffort, lack.without(slices.Concat(second, last)))
	var victims []pod.UID
	for _, v := range slices.Concat(first, second, last) {
		victims = append(victims, pod.UID(v.UID))
	}
	return victims
}

func preemptable(by, p *v1.Pod) bool {
	if pod.IsCritical(by) && !pod.IsCritical(p) {
		return true
	}
	return by.Spec.Priority != nil && p.Spec.Priority != nil && *by.Spec.Priority > *p.Spec.Priority
}

// choose takes pods until nothing is lacking: each time the one that leaves the
// least, and of equal ones the smallest. There are enough.
func choose(pods []*v1.Pod, lack needs) (chosen []*v1.Pod) {
	pods = slices.Clone(pods)
	for len(lack) > 0 && len(pods) > 0 {
		best := slices.MinFunc(pods, func(a, b *v1.Pod) int {
			return cmp.Or(cmp.Compare(lack.distance(a), lack.distance(b)),
				cmp.Compare(request(a, v1.ResourceMemory), request(b, v1.ResourceMemory)),
				cmp.Compare(request(a, v1.ResourceCPU), request(b, v1.ResourceCPU)), cmp.Compare(a.UID, b.UID))
		})
		chosen = append(chosen, best)
		pods = slices.DeleteFunc(pods, func(p *v1.Pod) bool { return p == best })
		lack = lack.without([]*v1.Pod{best})
	}
	return chosen
}

// without is what is lacking after the pods have ended.
func (n needs) without(pods []*v1.Pod) needs {
	left := needs{}
	for name, amount := range n {
		for _, p := range pods {
			amount -= request(p, name)
		}
		if amount > 0 {
			left[name] = amount
		}
	}
	return left
}

// distance is how much would be lacking still after a pod has ended: the squares
// of what is left of each resource, as a part of what was lacking.
func (n needs) distance(p *v1.Pod) (d float64) {
	// In order, so that sums are the same each time.
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if left := float64(n[name] - request(p, name)); left > 0 {
			d += left / float64(n[name]) * left / float64(n[name])
		}
	}
	return d
}

// request is what a pod asks of a resource, in the unit of amount.
func request(p *v1.Pod, name v1.ResourceName) int64 {
	if name == v1.ResourcePods {
		return 1
	}
	return amount(name, resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})[name])
}
