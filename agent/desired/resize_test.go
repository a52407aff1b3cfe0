package desired

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/pod"
)

// milli admits pods that ask for so much CPU in all.
type milli int64

func (m milli) admit(active []*v1.Pod, p *v1.Pod) *pod.Rejection {
	left := int64(m)
	for _, a := range append(active, p) {
		left -= a.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	}
	if left < 0 {
		return &pod.Rejection{Reason: "OutOfcpu", Message: "no room"}
	}
	return nil
}

// sized is a pod that asks for CPU, and of which the status says what it has.
func sized(uid, cpu, has string) *v1.Pod {
	p := aged(uid, 0)
	r := v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}}
	p.Spec.Containers = []v1.Container{{Name: "a", Resources: r}}
	if has != "" {
		list := v1.ResourceList{v1.ResourceCPU: resource.MustParse(has)}
		p.Status.ContainerStatuses = []v1.ContainerStatus{{Name: "a", AllocatedResources: list, Resources: &v1.ResourceRequirements{Requests: list}}}
	}
	p.Generation = p.Spec.Containers[0].Resources.Requests.Cpu().MilliValue()
	return p
}

func expectCPU(t *testing.T, s *Set, uid pod.UID, want string, waits bool) {
	t.Helper()
	d, _ := s.Get(uid)
	if got := d.Pod.Spec.Containers[0].Resources.Requests.Cpu().String(); got != want || (d.Resize != nil) != waits || d.Rejection != nil {
		t.Errorf("pod %s has %s, waits: %+v, rejected: %+v; want %s", uid, got, d.Resize, d.Rejection, want)
	}
}

func TestResize(t *testing.T) {
	h := &heard{}
	s := New([]pod.Source{pod.SourceAPI}, milli(1000).admit, Hooks{
		Changed: func(uid pod.UID) { h.changed = append(h.changed, uid) }, Ready: func() {}})
	s.Synced(pod.SourceAPI)
	s.Put(pod.SourceAPI, sized("a", "400m", ""))
	s.Put(pod.SourceAPI, sized("b", "400m", ""))
	s.Put(pod.SourceAPI, sized("a", "600m", ""))
	expectCPU(t, s, "a", "600m", false)
	if d, _ := s.Get("a"); d.Granted != 600 {
		t.Errorf("granted in generation %d", d.Granted)
	}
	// No room: it keeps what it has, and another pod may still shrink.
	s.Put(pod.SourceAPI, sized("b", "500m", ""))
	expectCPU(t, s, "b", "400m", true)
	h.changed = nil
	s.Put(pod.SourceAPI, sized("a", "100m", ""))
	expectCPU(t, s, "a", "100m", false)
	expectCPU(t, s, "b", "500m", false)
	if !slices.Equal(h.changed, []pod.UID{"a", "b"}) {
		t.Errorf("told of %v", h.changed)
	}
	// One more waits until a pod has ended.
	s.Put(pod.SourceAPI, sized("a", "700m", ""))
	expectCPU(t, s, "a", "100m", true)
	h.changed = nil
	s.Ended("b")
	expectCPU(t, s, "a", "700m", false)
	if !slices.Equal(h.changed, []pod.UID{"a"}) {
		t.Errorf("told of %v", h.changed)
	}
}

// Where several wait and there is room for one, it is the most important one's.
func TestResizeByPriority(t *testing.T) {
	s := New([]pod.Source{pod.SourceAPI}, milli(1000).admit, Hooks{Changed: func(pod.UID) {}, Ready: func() {}})
	s.Synced(pod.SourceAPI)
	important := func(uid, cpu string) *v1.Pod {
		p, high := sized(uid, cpu, ""), int32(1000)
		p.Spec.Priority = &high
		return p
	}
	s.Put(pod.SourceAPI, sized("a", "100m", ""))
	s.Put(pod.SourceAPI, important("b", "100m"))
	s.Put(pod.SourceAPI, sized("c", "100m", ""))
	s.Put(pod.SourceAPI, sized("holder", "700m", ""))
	s.Put(pod.SourceAPI, sized("a", "700m", ""))
	s.Put(pod.SourceAPI, important("b", "700m"))
	s.Put(pod.SourceAPI, sized("c", "700m", ""))
	for _, uid := range []pod.UID{"a", "b", "c"} {
		expectCPU(t, s, uid, "100m", true)
	}
	s.Ended("holder")
	expectCPU(t, s, "a", "100m", true)
	expectCPU(t, s, "b", "700m", false)
	expectCPU(t, s, "c", "100m", true)
}

// A new agent gives a pod what it has, not what it asks for, until all pods that
// have something are admitted.
func TestResizeAfterRestart(t *testing.T) {
	s := New([]pod.Source{pod.SourceAPI}, milli(1000).admit, Hooks{Changed: func(pod.UID) {}, Ready: func() {}})
	s.Put(pod.SourceAPI, sized("a", "700m", "400m"))
	s.Put(pod.SourceAPI, sized("b", "500m", "500m"))
	s.Synced(pod.SourceAPI)
	expectCPU(t, s, "a", "400m", true)
	expectCPU(t, s, "b", "500m", false)
	s.Ended("b")
	expectCPU(t, s, "a", "700m", false)
}
