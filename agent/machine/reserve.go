package machine

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Reserved is what pods may not have.
// See https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/.
type Reserved struct {
	// System is for what is not Kubernetes, Kube for what is.
	System, Kube v1.ResourceList
	// EvictionMemory and EvictionNodefs are the hard eviction thresholds
	// memory.available and nodefs.available: what is never left free cannot be
	// given to pods either.
	EvictionMemory, EvictionNodefs Threshold
}

// Threshold is an amount, or a fraction of the capacity. The zero value is
// nothing.
type Threshold struct {
	Quantity resource.Quantity
	// Fraction is between 0 and 1. Its precision is the kubelet's.
	Fraction float32
}

// ParseThreshold reads "100Mi" or "10%".
func ParseThreshold(s string) (Threshold, error) {
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(percent, 32)
		if err != nil || !(p >= 0 && p <= 100) {
			return Threshold{}, fmt.Errorf("%q must be between 0%% and 100%%", s)
		}
		return Threshold{Fraction: float32(p) / 100}, nil
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return Threshold{}, fmt.Errorf("%q must be a quantity such as 100Mi, or a percentage such as 10%%", s)
	}
	if q.Sign() < 0 {
		return Threshold{}, errors.New("must not be negative")
	}
	return Threshold{Quantity: q}, nil
}

// of is what the threshold is of a capacity.
func (t Threshold) of(capacity resource.Quantity) resource.Quantity {
	if t.Fraction > 0 {
		return *resource.NewQuantity(int64(float64(capacity.Value())*float64(t.Fraction)), resource.BinarySI)
	}
	return t.Quantity.DeepCopy()
}

// total is all that is reserved.
func (r Reserved) total(capacity v1.ResourceList) v1.ResourceList {
	total := v1.ResourceList{}
	add := func(name v1.ResourceName, q resource.Quantity) {
		sum := total[name]
		sum.Add(q)
		total[name] = sum
	}
	for name, q := range r.System {
		add(name, q)
	}
	for name, q := range r.Kube {
		add(name, q)
	}
	add(v1.ResourceMemory, r.EvictionMemory.of(capacity[v1.ResourceMemory]))
	add(v1.ResourceEphemeralStorage, r.EvictionNodefs.of(capacity[v1.ResourceEphemeralStorage]))
	return total
}

// allocatable is what pods may have. Huge pages are taken out of the memory:
// they are not available as ordinary pages.
func (r Reserved) allocatable(capacity v1.ResourceList) v1.ResourceList {
	reserved := r.total(capacity)
	for name, q := range capacity {
		if strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix) {
			sum := reserved[v1.ResourceMemory]
			sum.Add(q)
			reserved[v1.ResourceMemory] = sum
		}
	}
	out := capacity.DeepCopy()
	for name, q := range out {
		q.Sub(reserved[name])
		if q.Sign() < 0 {
			q.Set(0)
		}
		out[name] = q
	}
	return out
}
