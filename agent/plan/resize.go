package plan

import (
	"fmt"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// ReasonResizeError is the reason of a resize that could not be carried out.
const ReasonResizeError = v1.PodReasonError

// resize gives a running container the resources of its spec: in place, or with a
// restart where its resize policy wants one.
func (p *planner) resize(c *v1.Container, cur *pod.Container) {
	want := pod.ResourcesOf(c.Resources)
	if cur.Resources == nil || *cur.Resources == want {
		return
	}
	h := p.History.Containers[c.Name]
	if h.Updated == cur.ID && h.UpdatedTo == want {
		return
	}
	if p.result.Resizing == nil {
		p.result.Resizing = &Waiting{}
	}
	if resizeRestarts(c, *cur.Resources, want) {
		a := p.stopAction(cur, p.grace(), fmt.Sprintf("Container %s resize requires restart", c.Name))
		a.Replace = true
		p.do(a)
		return
	}
	if f := h.Resize; !f.IsZero() {
		*p.result.Resizing = Waiting{f.Reason, f.Message}
		if p.Now.Before(f.RetryAt) {
			p.wakeAt(f.RetryAt)
			return
		}
	}
	p.do(Action{Kind: UpdateContainer, ID: cur.ID, Container: c.Name, Resources: want})
}

// resizeRestarts reports whether a container is to be restarted for a resource
// that changes.
func resizeRestarts(c *v1.Container, have, want pod.Resources) bool {
	for _, policy := range c.ResizePolicy {
		changes := policy.ResourceName == v1.ResourceMemory && have.Memory != want.Memory ||
			policy.ResourceName == v1.ResourceCPU && (have.CPUShares != want.CPUShares || have.CPUQuota != want.CPUQuota)
		if changes && policy.RestartPolicy == v1.RestartContainer {
			return true
		}
	}
	return false
}
