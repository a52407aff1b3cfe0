// Package admit decides whether a pod fits this node, as the kubelet does when
// it first sees a pod: the scheduler may not have known what the node knows. It
// is pure.
//
// Order, reasons and messages are the kubelet's; the first fault is told.
package admit

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"

	"nodelet/agent/pod"
)

// Pod says why p does not fit the node beside the active pods, or nil. active
// are the pods that were admitted and have not ended.
func Pod(node *v1.Node, active []*v1.Pod, p *v1.Pod) *pod.Rejection {
	if node == nil {
		return &pod.Rejection{Reason: "InvalidNodeInfo", Message: "Kubelet cannot get node info."}
	}
	if os, ok := p.Labels[v1.LabelOSStable]; ok && os != runtime.GOOS {
		return &pod.Rejection{Reason: "PodOSSelectorNodeLabelDoesNotMatch",
			Message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"}
	}
	if p.Spec.OS != nil && string(p.Spec.OS.Name) != runtime.GOOS {
		return &pod.Rejection{Reason: "PodOSNotSupported",
			Message: "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if sc := p.Spec.SecurityContext; sc != nil && sc.SupplementalGroupsPolicy != nil &&
		*sc.SupplementalGroupsPolicy == v1.SupplementalGroupsPolicyStrict && !strictGroups(node) {
		return &pod.Rejection{Reason: "SupplementalGroupsPolicyNotSupported",
			Message: "SupplementalGroupsPolicy=Strict is not supported in this node"}
	}
	r := resources(node, active, p)
	if r == nil || pod.IsCritical(p) {
		if other := predicates(node, active, p); r == nil || other != nil {
			return other
		}
		r.Preempt = preempt(node, active, p)
	}
	return r
}

// strictGroups reports whether the node's runtime can keep a pod to the groups
// of its spec.
func strictGroups(node *v1.Node) bool {
	f := node.Status.Features
	return f != nil && f.SupplementalGroupsPolicy != nil && *f.SupplementalGroupsPolicy
}

// resources compares what is asked for with what is left: pods first, then the
// resources in a fixed order.
func resources(node *v1.Node, active []*v1.Pod, p *v1.Pod) *pod.Rejection {
	for _, l := range lacking(node, active, p) {
		return &pod.Rejection{Reason: "OutOf" + string(l.name), Message: fmt.Sprintf(
			"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", l.name, l.requested, l.used, l.capacity)}
	}
	return nil
}

// lack is a resource of which a node has too little for a pod.
type lack struct {
	name                      v1.ResourceName
	requested, used, capacity int64
}

func lacking(node *v1.Node, active []*v1.Pod, p *v1.Pod) (all []lack) {
	allocatable := node.Status.Allocatable
	if room := allocatable.Pods().Value(); int64(len(active))+1 > room {
		all = append(all, lack{v1.ResourcePods, 1, int64(len(active)), room})
	}
	wants := resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{})
	used := v1.ResourceList{}
	for _, a := range active {
		for name, q := range resourcehelper.PodRequests(a, resourcehelper.PodResourcesOptions{UseStatusResources: true}) {
			sum := used[name]
			sum.Add(q)
			used[name] = sum
		}
	}
	for _, name := range ordered(wants) {
		capacity, known := allocatable[name]
		if !known && isExtended(name) {
			// An extended resource that this node does not know is the
			// cluster's business.
			continue
		}
		want, have, room := amount(name, wants[name]), amount(name, used[name]), amount(name, capacity)
		if want > 0 && want > room-have {
			all = append(all, lack{name, want, have, room})
		}
	}
	return all
}

// ordered are the names that are looked at, in their order.
func ordered(list v1.ResourceList) []v1.ResourceName {
	names := []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if isExtended(name) || isScalar(name) {
			names = append(names, name)
		}
	}
	return names
}

// isExtended reports whether a resource is one that Kubernetes itself knows
// nothing about: example.com/gpu.
func isExtended(name v1.ResourceName) bool {
	return strings.Contains(string(name), "/") && !strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix) &&
		!strings.HasPrefix(string(name), v1.DefaultResourceRequestsPrefix)
}

// isScalar reports whether a resource of Kubernetes' own, other than the usual
// ones, is counted on nodes.
func isScalar(name v1.ResourceName) bool {
	return strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) ||
		strings.HasPrefix(string(name), v1.ResourceAttachableVolumesPrefix) ||
		strings.Contains(string(name), v1.ResourceDefaultNamespacePrefix)
}

// amount is a quantity in the unit that it is compared in: CPU in thousandths.
func amount(name v1.ResourceName, q resource.Quantity) int64 {
	if name == v1.ResourceCPU {
		return q.MilliValue()
	}
	return q.Value()
}

// predicates are the checks that are not about amounts.
func predicates(node *v1.Node, active []*v1.Pod, p *v1.Pod) *pod.Rejection {
	fits, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(node)
	if err != nil || !fits {
		return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
	}
	if p.Spec.NodeName != "" && p.Spec.NodeName != node.Name {
		return failed("NodeName", "node(s) didn't match the requested node name")
	}
	if portTaken(active, p) {
		return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
	}
	if pod.IsStatic(p) {
		return nil
	}
	// The operators that compare numbers (Gt, Lt) are behind a feature gate that
	// is off by default.
	_, untolerated := corev1.FindMatchingUntoleratedTaint(klog.Logger{}, node.Spec.Taints, p.Spec.Tolerations,
		func(t *v1.Taint) bool { return t.Effect == v1.TaintEffectNoExecute }, false)
	if untolerated {
		return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

func failed(name, why string) *pod.Rejection {
	return &pod.Rejection{Reason: name, Message: fmt.Sprintf("Predicate %s failed: %s", name, why)}
}
