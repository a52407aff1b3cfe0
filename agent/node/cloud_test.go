package node

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func external(c *Config) {
	c.ExternalCloudProvider, c.ProviderID = true, "cloud://7"
	c.NodeIPs = []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")}
}

// A cloud controller manager finds the node tainted and told of its addresses;
// those that it sets stay.
func TestExternalCloudProvider(t *testing.T) {
	play(t, external, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		n := m.Node()
		taint := v1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: v1.TaintEffectNoSchedule}
		if len(n.Spec.Taints) != 2 || n.Spec.Taints[1] != taint || n.Spec.ProviderID != "cloud://7" {
			t.Errorf("spec %+v", n.Spec)
		}
		if got := n.Annotations["alpha.kubernetes.io/provided-node-ip"]; got != "192.0.2.7,2001:db8::7" {
			t.Errorf("annotation %q", got)
		}
		initialized := n.DeepCopy()
		initialized.Spec.Taints = nil
		initialized.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeExternalIP, Address: "203.0.113.7"},
			{Type: v1.NodeInternalIP, Address: "10.0.0.7"}}
		m.NodeSet(initialized)
		time.Sleep(10 * time.Minute)
		if n := m.Node(); len(n.Status.Addresses) != 2 || n.Status.Addresses[1].Address != "10.0.0.7" || len(n.Spec.Taints) != 0 {
			t.Errorf("after the provider's turn: spec %+v, addresses %v", n.Spec, n.Status.Addresses)
		}
		if !slices.Equal(m.HostIPs(), []string{"10.0.0.7"}) {
			t.Errorf("host IPs %q", m.HostIPs())
		}
	})
}

// Without a cloud provider the addresses are the machine's, and what a former
// provider was told is taken back.
func TestNoCloudProvider(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		n := m.Node().DeepCopy()
		if _, told := n.Annotations[providedIPAnnotation]; told || n.Annotations[attachDetachAnnotation] != "true" || len(n.Spec.Taints) != 1 {
			t.Errorf("node %+v", n)
		}
		n.Annotations[providedIPAnnotation] = "192.0.2.7"
		n.Status.Addresses = []v1.NodeAddress{{Type: v1.NodeInternalIP, Address: "10.0.0.7"}}
		m.NodeSet(n)
		time.Sleep(time.Minute)
		if n := m.Node(); n.Annotations[providedIPAnnotation] != "" || n.Status.Addresses[0].Address != "192.0.2.7" {
			t.Errorf("annotations %v, addresses %v", n.Annotations, n.Status.Addresses)
		}
	})
}

// What a device's owner advertises by hand is not the agent's to take away.
func TestExtendedResourcesStay(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		n := m.Node().DeepCopy()
		two := resource.MustParse("2")
		w.set(func() { w.allocatable = v1.ResourceList{v1.ResourceCPU: two} })
		n.Status.Capacity["example.com/dongle"], n.Status.Allocatable["example.com/dongle"] = two, two
		n.Status.Capacity["hugepages-2Mi"] = two
		m.NodeSet(n)
		time.Sleep(10 * time.Minute)
		if q := m.Node().Status.Allocatable[v1.ResourceCPU]; q.Value() != 2 || m.Node().Status.Capacity.Cpu().Value() != 4 {
			t.Errorf("capacity %v, allocatable %v", m.Node().Status.Capacity, m.Node().Status.Allocatable)
		}
		for what, list := range map[string]v1.ResourceList{"capacity": m.Node().Status.Capacity, "allocatable": m.Node().Status.Allocatable} {
			if q := list["example.com/dongle"]; q.Value() != 2 {
				t.Errorf("%s %v", what, list)
			}
			if _, kept := list["hugepages-2Mi"]; kept {
				t.Errorf("%s has huge pages that the machine has no more: %v", what, list)
			}
		}
	})
}

// A node that may not create its object uses the one that there is.
func TestForbiddenToCreate(t *testing.T) {
	play(t, nil, func(t *testing.T, w *world, m *Manager) {
		<-m.Registered()
		existing := m.Node().DeepCopy()
		w.set(func() { w.calls = nil })
		second := New(m.config, m.Deps)
		second.API = forbidding{w}
		if err := second.tryRegister(t.Context()); err != nil || second.Node() == nil {
			t.Errorf("%v, node %v", err, second.Node())
		}
		if calls := w.take(); !slices.Equal(calls, []string{"get"}) {
			t.Errorf("calls %q", calls)
		}
		w.set(func() { w.fail = apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "n") })
		if err := second.tryRegister(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("without an object: %v", err)
		}
		w.set(func() { w.fail, w.node = nil, existing })
	})
}

// forbidding refuses to create nodes.
type forbidding struct{ *world }

func (forbidding) CreateNode(context.Context, *v1.Node) (*v1.Node, error) {
	return nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "n", nil)
}
