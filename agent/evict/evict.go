// Package evict decides which pods use more of the node's disk than they may.
//
// It is pure: what was measured goes in, the reason to end the pod comes out.
// volume.Manager measures, node.LocalStorage has it done.
package evict

import (
	"fmt"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"nodelet/agent/pod"
)

// Volumes are the names of the pod's volumes whose size matters: its emptyDirs on
// disk that have a limit, or all of them if there is one on the pod's local storage.
// There are none of critical pods, which are never evicted.
func Volumes(p *v1.Pod) []string {
	if pod.IsCritical(p) || !slices.ContainsFunc(p.Spec.Volumes, onDisk) {
		return nil
	}
	var names []string
	all := storageLimit(p) != nil
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if onDisk(*v) && (all || sizeLimit(v) != nil) {
			names = append(names, v.Name)
		}
	}
	return names
}

// Reason says why a pod that uses so much of each of its Volumes, in bytes, is to
// be evicted, in the words of its status; "" if it is not. A volume that could not
// be measured counts as empty.
func Reason(p *v1.Pod, used map[string]int64) string {
	total := resource.NewQuantity(0, resource.BinarySI)
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if !onDisk(*v) {
			continue
		}
		size := resource.NewQuantity(used[v.Name], resource.BinarySI)
		if limit := sizeLimit(v); limit != nil && size.Cmp(*limit) > 0 {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, limit.String())
		}
		total.Add(*size)
	}
	if limit := storageLimit(p); limit != nil && total.Cmp(*limit) > 0 {
		return fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", limit.String())
	}
	return ""
}

// onDisk reports whether a volume is an emptyDir on the node's disk. The kernel
// itself keeps those in memory within their limits.
func onDisk(v v1.Volume) bool {
	return v.EmptyDir != nil && v.EmptyDir.Medium == v1.StorageMediumDefault
}

// sizeLimit is that of an emptyDir, nil for none.
func sizeLimit(v *v1.Volume) *resource.Quantity {
	if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() > 0 {
		return limit
	}
	return nil
}

// storageLimit is what the pod's containers may use of the node's disk together,
// nil if nobody says.
func storageLimit(p *v1.Pod) *resource.Quantity {
	limit, ok := resourcehelper.PodLimits(p, resourcehelper.PodResourcesOptions{})[v1.ResourceEphemeralStorage]
	if !ok {
		return nil
	}
	return &limit
}
