package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

func (m *model) taskKeys() []string { return slices.Sorted(maps.Keys(m.agent.tasks)) }

// disturb lets a while pass and changes one thing in the world, or nothing.
func (m *model) disturb() {
	w := m.world
	pause := []time.Duration{0, 100 * time.Millisecond, time.Second, 5 * time.Second, 11 * time.Second, 40 * time.Second,
		6 * time.Minute, 21 * time.Minute}
	w.now = w.now.Add(pause[m.choose.n(len(pause))])
	if len(w.containers) > 0 {
		m.disturbContainer(&w.containers[m.choose.n(len(w.containers))])
	}
	switch m.choose.n(24) {
	case 0:
		w.loseSandboxes(m.choose.oneIn(2))
	case 1:
		m.newAgent()
		m.agent.ready = m.choose.oneIn(2)
	case 2:
		m.agent.ready = true
	case 3:
		m.remove()
	case 4, 5:
		if m.agent.status != nil && m.desired != nil {
			m.published = *m.agent.status.DeepCopy()
			m.hear()
		}
	case 6:
		m.changeImage()
	case 7:
		m.resize()
	case 8:
		m.debug()
	}
	// The agent mostly hears of it soon.
	if m.choose.n(4) > 0 {
		m.agent.observed = w.snapshot()
	}
}

func (m *model) disturbContainer(c *pod.Container) {
	w := m.world
	probes := m.agent.probes.Of(c.Name, c.ID)
	switch m.choose.n(24) {
	case 0, 1:
		w.exit(c, 0, "Completed")
	case 2, 3:
		w.exit(c, 1, "Error")
	case 4:
		w.exit(c, 42, "Error")
	case 5:
		w.exit(c, 137, "OOMKilled")
	case 6:
		// Not during a start that the agent may not live to see the end of: the
		// next one knows it again by its name, which comes from what there is.
		// Nor before anybody was told of it, and so of its number.
		if _, making := m.agent.tasks["make"]; !making && len(m.late) == 0 && m.isPublished(c) {
			w.lose(c)
			m.agent.observed = w.snapshot()
			return
		}
	case 7:
		if c.State == pod.ContainerRunning {
			c.State = pod.ContainerUnknown
		}
	case 8:
		if c.State == pod.ContainerUnknown {
			c.State = pod.ContainerRunning
		}
	case 9:
		probes.Liveness = pod.ResultFailure
	case 10, 11:
		probes.Startup = pod.ResultSuccess
	case 12:
		probes.Startup = pod.ResultFailure
	case 13, 14:
		probes.Readiness = pod.ResultSuccess
	case 15:
		probes.Readiness = pod.ResultFailure
	}
	if c.State == pod.ContainerRunning {
		m.agent.probes[c.Name] = probes
	}
}

// isPublished reports whether the API server has been told of a container.
func (m *model) isPublished(c *pod.Container) bool {
	p := &m.published
	for _, s := range slices.Concat(p.InitContainerStatuses, p.ContainerStatuses, p.EphemeralContainerStatuses) {
		if s.ContainerID == "test://"+c.ID {
			return true
		}
	}
	return false
}

// remove deletes the pod, again perhaps, or has its source not list it.
func (m *model) remove() {
	if m.desired == nil {
		return
	}
	next := *m.desired
	switch m.choose.n(6) {
	case 0, 1, 2:
		if next.Source != pod.SourceAPI {
			next.Removed = m.world.now
			break
		}
		grace := int64(m.choose.n(64))
		next.Pod = next.Pod.DeepCopy()
		if old := next.Pod.DeletionGracePeriodSeconds; old != nil && *old < grace {
			return
		}
		at := metav1.NewTime(m.world.now.Add(time.Duration(grace) * time.Second))
		next.Pod.DeletionTimestamp, next.Pod.DeletionGracePeriodSeconds = &at, &grace
	case 3:
		next.Removed = m.world.now
	case 4:
		// Only an agent that has just heard of a pod refuses it.
		if m.world.serial > 0 || len(m.agent.tasks)+len(m.late) > 0 {
			return
		}
		next.Rejection = &pod.Rejection{Reason: "OutOfcpu", Message: "none"}
	case 5:
		if next.Removed.IsZero() {
			return
		}
		m.desired = nil
		return
	}
	m.desired = &next
}

// resize changes the resources of a container that has some.
func (m *model) resize() {
	if m.desired == nil {
		return
	}
	next := *m.desired
	next.Pod = next.Pod.DeepCopy()
	c := &next.Pod.Spec.Containers[m.choose.n(len(next.Pod.Spec.Containers))]
	if len(c.Resources.Requests) == 0 {
		return
	}
	c.Resources = resources(m.choose.n(3))
	next.Pod.Generation++
	m.desired = &next
}

// debug adds an ephemeral container.
func (m *model) debug() {
	if m.desired == nil || len(m.desired.Pod.Spec.EphemeralContainers) > 1 {
		return
	}
	next := *m.desired
	next.Pod = next.Pod.DeepCopy()
	all := &next.Pod.Spec.EphemeralContainers
	*all = append(*all, v1.EphemeralContainer{EphemeralContainerCommon: v1.EphemeralContainerCommon{
		Name: fmt.Sprintf("e%d", len(*all)), Image: "img0"}})
	next.Pod.Generation++
	m.desired = &next
}

func (m *model) changeImage() {
	if m.desired == nil {
		return
	}
	next := *m.desired
	next.Pod = next.Pod.DeepCopy()
	c := &next.Pod.Spec.Containers[m.choose.n(len(next.Pod.Spec.Containers))]
	c.Image = fmt.Sprintf("img%d", m.choose.n(3))
	next.Pod.Generation++
	m.desired = &next
}
