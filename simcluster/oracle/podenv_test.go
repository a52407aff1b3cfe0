// Package oracle holds what the agent decides against what the kubelet's own
// code decides, on random input, where that code can be called by itself. It
// stands under simcluster, the only place that may import k8s.io/kubernetes.
package oracle

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/v1/resource"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"

	"nodelet/agent/pod"
	"nodelet/agent/podenv"
)

// dice are random choices that repeat.
type dice struct{ *rand.Rand }

func newDice() dice { return dice{rand.New(rand.NewPCG(1, 2))} }

func (d dice) pick(from ...string) string { return from[d.IntN(len(from))] }

func (d dice) chance(oneIn int) bool { return d.IntN(oneIn) == 0 }

func TestExpand(t *testing.T) {
	d := newDice()
	value := expansion.MappingFuncFor(map[string]string{"A": "1", "B": "$(A)", "": "empty"})
	for range 200_000 {
		var b strings.Builder
		for range d.IntN(12) {
			b.WriteString(d.pick("$", "$", "(", ")", "A", "B", "ä", "x", " "))
		}
		s := b.String()
		if want, got := expansion.Expand(s, value), pod.Expand(s, value); got != want {
			t.Fatalf("%q became %q, the kubelet's %q", s, got, want)
		}
	}
}

func TestServiceVariables(t *testing.T) {
	d := newDice()
	for range 2_000 {
		s := &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: d.pick("a", "my-svc", "kubernetes")},
			Spec: v1.ServiceSpec{ClusterIP: d.pick("1.2.3.4", "fd00::1", "None", "")}}
		for i := range 1 + d.IntN(3) {
			s.Spec.Ports = append(s.Spec.Ports, v1.ServicePort{Name: d.pick("", "x", "y-z"), Port: int32(80 + i),
				Protocol: v1.Protocol(d.pick("", "TCP", "UDP", "SCTP"))})
		}
		values := map[string]string{}
		for _, e := range envvars.FromServices([]*v1.Service{s}) {
			values[e.Name] = e.Value
		}
		env, err := podenv.Resolve(podenv.Input{Pod: &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}},
			Container: &v1.Container{}, Services: []*v1.Service{s}})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range env {
			if value, ok := values[e.Name]; !ok || value != e.Value || len(env) != len(values) {
				t.Fatalf("%v, the kubelet's are %v", env, values)
			}
		}
	}
}

func TestResourceField(t *testing.T) {
	d := newDice()
	quantity := func() apiresource.Quantity {
		return apiresource.MustParse(d.pick("0", "1", "1m", "1500m", "100Mi", "3k", "7Gi", "1n", "12345678", "2", "0.5"))
	}
	resources := func() v1.ResourceList {
		list := v1.ResourceList{}
		for _, name := range []v1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi"} {
			if d.chance(2) {
				list[name] = quantity()
			}
		}
		return list
	}
	for range 50_000 {
		c := &v1.Container{Resources: v1.ResourceRequirements{Limits: resources(), Requests: resources()}}
		allocatable := resources()
		ref := &v1.ResourceFieldSelector{Divisor: quantity(), Resource: d.pick("limits", "requests") + "." +
			d.pick("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "pods", "")}
		defaulted := c.DeepCopy()
		resource.MergeContainerResourceLimits(defaulted, allocatable)
		want, wantErr := resource.ExtractContainerResourceValue(ref, defaulted)
		got, err := podenv.ResourceField(ref, &v1.Pod{}, c, allocatable)
		if got != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%+v of %+v is %s (%v), the kubelet's %s (%v)", ref, c.Resources, got, err, want, wantErr)
		}
	}
}

// same reports whether two lists have the same content in any order.
func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
