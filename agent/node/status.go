package node

import (
	"context"
	"fmt"
	"time"

	v1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// runtimeGrace is how long the runtime may be unreachable before the node
	// is not ready.
	runtimeGrace = 30 * time.Second
	// maxImages is how many images a node's status names.
	maxImages = 50
	// kubeletPort is the port of the node's HTTPS API.
	kubeletPort = 10250
)

// update computes the status and writes it if it has changed or the report is
// due.
func (m *Manager) update(ctx context.Context) error {
	m.askRuntime(ctx)
	old := m.Node()
	next := old.DeepCopy()
	if err := m.setStatus(ctx, next); err != nil {
		return err
	}
	due := time.Since(m.reported) >= m.reportEvery
	if !due && !changed(&old.Status, &next.Status) {
		return nil
	}
	written, err := m.API.PatchNodeStatus(ctx, old, next)
	if err != nil {
		// The Node may have become another one.
		if n, getErr := m.API.GetNode(ctx, m.config.Name); getErr == nil {
			m.NodeSet(n)
		}
		return err
	}
	m.NodeSet(written)
	m.reported = time.Now()
	return nil
}

// changed compares two statuses but for the time of the heartbeat.
func changed(a, b *v1.NodeStatus) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	for _, s := range []*v1.NodeStatus{a, b} {
		for i := range s.Conditions {
			s.Conditions[i].LastHeartbeatTime = metav1.Time{}
		}
	}
	return !apiequality.Semantic.DeepEqual(a, b)
}

// askRuntime learns how the runtime is. A question that hangs costs its timeout
// and no more.
func (m *Manager) askRuntime(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.config.RuntimeTimeout)
	defer cancel()
	state, err := m.Runtime.Status(ctx)
	m.runtimeErr = err
	if err == nil {
		m.runtimeState, m.runtimeSeen = state, time.Now()
	}
}

// setStatus makes n's status what is known now.
func (m *Manager) setStatus(ctx context.Context, n *v1.Node) error {
	facts, err := m.Machine.Facts(ctx)
	if err != nil {
		return fmt.Errorf("reading the machine's facts: %w", err)
	}
	s := &n.Status
	s.Addresses = facts.Addresses
	m.setHostIPs(facts.Addresses)
	s.Capacity = withPods(facts.Capacity, m.config.MaxPods)
	s.Allocatable = s.Capacity
	if facts.Allocatable != nil {
		s.Allocatable = withPods(facts.Allocatable, m.config.MaxPods)
	}
	info := facts.Info
	info.KubeletVersion = m.config.Version
	if !m.runtimeSeen.IsZero() {
		info.ContainerRuntimeVersion = m.runtimeState.Name + "://" + m.runtimeState.Version
	}
	s.NodeInfo = info
	s.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	m.setImages(ctx, s)
	m.setConditions(s)
	return nil
}

func (m *Manager) setHostIPs(addresses []v1.NodeAddress) {
	var ips []string
	for _, a := range addresses {
		if a.Type == v1.NodeInternalIP {
			ips = append(ips, a.Address)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hostIPs = ips
}

func withPods(list v1.ResourceList, pods int) v1.ResourceList {
	out := list.DeepCopy()
	if out == nil {
		out = v1.ResourceList{}
	}
	out[v1.ResourcePods] = *resource.NewQuantity(int64(pods), resource.DecimalSI)
	return out
}

// setImages names the largest images. What the runtime cannot say now stays as
// it was.
func (m *Manager) setImages(ctx context.Context, s *v1.NodeStatus) {
	if m.runtimeSeen.IsZero() || m.runtimeErr != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.config.RuntimeTimeout)
	defer cancel()
	images, err := m.Runtime.ListImages(ctx)
	if err != nil {
		m.Log.Warn("Could not list the images", "err", err)
		return
	}
	s.Images = nil
	for _, image := range images[:min(len(images), maxImages)] {
		s.Images = append(s.Images, v1.ContainerImage{Names: image.Names, SizeBytes: image.Size})
	}
}

// setConditions sets the conditions in the kubelet's order: pressures first,
// Ready last.
func (m *Manager) setConditions(s *v1.NodeStatus) {
	m.setCondition(s, v1.NodeMemoryPressure, v1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available")
	m.setCondition(s, v1.NodeDiskPressure, v1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure")
	m.setCondition(s, v1.NodePIDPressure, v1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available")
	if message := m.notReady(); message != "" {
		m.setCondition(s, v1.NodeReady, v1.ConditionFalse, "KubeletNotReady", message)
		return
	}
	m.setCondition(s, v1.NodeReady, v1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
}

// notReady says why no pods can be run, or "".
func (m *Manager) notReady() string {
	switch {
	case m.runtimeSeen.IsZero() && m.runtimeErr != nil:
		return "container runtime is down: " + m.runtimeErr.Error()
	case m.runtimeSeen.IsZero():
		return "container runtime status check may not have completed yet"
	case m.runtimeErr != nil && time.Since(m.runtimeSeen) > runtimeGrace:
		return "container runtime is down: " + m.runtimeErr.Error()
	case !m.runtimeState.Ready:
		return fmt.Sprintf("container runtime not ready: RuntimeReady=false reason:%s message:%s",
			m.runtimeState.Reason, m.runtimeState.Message)
	}
	return ""
}

// conditionEvents are the reasons of the events that tell of a condition's
// change.
var conditionEvents = map[v1.NodeConditionType]map[v1.ConditionStatus]string{
	v1.NodeReady:          {v1.ConditionTrue: "NodeReady", v1.ConditionFalse: "NodeNotReady"},
	v1.NodeMemoryPressure: {v1.ConditionTrue: "NodeHasInsufficientMemory", v1.ConditionFalse: "NodeHasSufficientMemory"},
	v1.NodeDiskPressure:   {v1.ConditionTrue: "NodeHasDiskPressure", v1.ConditionFalse: "NodeHasNoDiskPressure"},
	v1.NodePIDPressure:    {v1.ConditionTrue: "NodeHasInsufficientPID", v1.ConditionFalse: "NodeHasSufficientPID"},
}

func (m *Manager) setCondition(s *v1.NodeStatus, t v1.NodeConditionType, status v1.ConditionStatus, reason, message string) {
	now := metav1.NewTime(time.Now()).Rfc3339Copy()
	next := v1.NodeCondition{Type: t, Status: status, Reason: reason, Message: message,
		LastHeartbeatTime: now, LastTransitionTime: now}
	for i := range s.Conditions {
		old := &s.Conditions[i]
		if old.Type != t {
			continue
		}
		if old.Status == status {
			next.LastTransitionTime = old.LastTransitionTime
		} else {
			m.tell(t, status)
		}
		*old = next
		return
	}
	s.Conditions = append(s.Conditions, next)
}

func (m *Manager) tell(t v1.NodeConditionType, status v1.ConditionStatus) {
	reason := conditionEvents[t][status]
	m.Event(v1.EventTypeNormal, reason, fmt.Sprintf("Node %s status is now: %s", m.config.Name, reason))
}
