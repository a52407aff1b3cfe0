package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	// maxImages is how many images a node's status names, maxImageNames by how
	// many names each.
	maxImages     = 50
	maxImageNames = 5
	// updateTries is how often in a row a status is tried to be written.
	updateTries = 5
	// kubeletPort is the port of the node's HTTPS API.
	kubeletPort = 10250
)

// update computes the status and writes it if it has changed or the report is
// due. A failed write is tried again at once, from the Node as it is by then.
func (m *Manager) update(ctx context.Context) error {
	m.askRuntime(ctx)
	err := m.tryUpdate(ctx)
	for try := 1; err != nil && try < updateTries && ctx.Err() == nil; try++ {
		var n *v1.Node
		if n, err = m.API.GetNode(ctx, m.config.Name); err != nil {
			continue
		}
		m.NodeSet(n)
		err = m.tryUpdate(ctx)
	}
	return err
}

func (m *Manager) tryUpdate(ctx context.Context) error {
	old := m.Node()
	next := old.DeepCopy()
	if err := m.setStatus(ctx, next); err != nil {
		return err
	}
	changed := changed(&old.Status, &next.Status)
	due := time.Since(m.reported) >= m.config.StatusReportFrequency+m.spread
	if !changed && !due {
		return nil
	}
	// Nodes that changed together do not all report together from then on.
	m.spread = 0
	if changed || m.reported.IsZero() {
		m.spread = time.Duration((m.Rand.Float64() - 0.5) * float64(m.config.StatusReportFrequency))
	}
	written, err := m.API.PatchNodeStatus(ctx, old, next)
	if err != nil {
		return err
	}
	m.NodeSet(written)
	m.reported = time.Now()
	return nil
}

// changed compares two statuses but for the time of the heartbeat.
func changed(a, b *v1.NodeStatus) bool {
	x, y := *a, *b
	x.Conditions, y.Conditions = withoutHeartbeat(a.Conditions), withoutHeartbeat(b.Conditions)
	return !apiequality.Semantic.DeepEqual(&x, &y)
}

func withoutHeartbeat(conditions []v1.NodeCondition) []v1.NodeCondition {
	conditions = slices.Clone(conditions)
	for i := range conditions {
		conditions[i].LastHeartbeatTime = metav1.Time{}
	}
	return conditions
}

// questionTimeout bounds one question to the runtime: one that hangs must not
// keep the status from being written, which says that the runtime is down.
func (m *Manager) questionTimeout() time.Duration {
	return min(m.config.RuntimeTimeout, m.config.StatusUpdateFrequency)
}

// askRuntime learns how the runtime is.
func (m *Manager) askRuntime(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, m.questionTimeout())
	defer cancel()
	state, err := m.Runtime.Status(ctx)
	m.runtimeErr = err
	if err == nil {
		m.runtimeState, m.runtimeSeen = state, time.Now()
	}
}

// runtimeHandlers are what the node can do for pods of a RuntimeClass, or, as here,
// of none.
func (m *Manager) runtimeHandlers() []v1.NodeRuntimeHandler {
	userNamespaces := false
	return []v1.NodeRuntimeHandler{{Features: &v1.NodeRuntimeHandlerFeatures{
		RecursiveReadOnlyMounts: &m.config.RecursiveReadOnly, UserNamespaces: &userNamespaces}}}
}

// setStatus makes n's status what is known now.
func (m *Manager) setStatus(ctx context.Context, n *v1.Node) error {
	facts, err := m.Machine.Facts(ctx)
	if err != nil {
		return fmt.Errorf("reading the machine's facts: %w", err)
	}
	s := &n.Status
	m.setAddresses(n, facts.Addresses)
	m.setResources(s, facts)
	info := facts.Info
	info.KubeletVersion = m.config.Version
	if !m.runtimeSeen.IsZero() {
		info.ContainerRuntimeVersion = m.runtimeState.Name + "://" + m.runtimeState.Version
	}
	s.NodeInfo = info
	s.DaemonEndpoints.KubeletEndpoint.Port = kubeletPort
	s.RuntimeHandlers = m.runtimeHandlers()
	m.setImages(ctx, s)
	m.setConditions(s)
	if m.VolumesInUse != nil {
		if inUse, known := m.VolumesInUse(); known {
			s.VolumesInUse = inUse
		}
	}
	return nil
}

// setAddresses sets the node's addresses. Those that a cloud controller manager
// has set stay.
func (m *Manager) setAddresses(n *v1.Node, addresses []v1.NodeAddress) {
	delete(n.Annotations, providedIPAnnotation)
	given := m.config.NodeIPs
	if m.config.ExternalCloudProvider && len(given) > 0 && !given[0].IsUnspecified() {
		var ips []string
		for _, ip := range given {
			ips = append(ips, ip.String())
		}
		metav1.SetMetaDataAnnotation(&n.ObjectMeta, providedIPAnnotation, strings.Join(ips, ","))
	}
	if !m.config.ExternalCloudProvider || len(n.Status.Addresses) == 0 {
		n.Status.Addresses = addresses
	}
	m.setHostIPs(n.Status.Addresses)
}

// setResources sets capacity and allocatable. Extended resources that somebody
// else advertises on this node stay.
func (m *Manager) setResources(s *v1.NodeStatus, facts Facts) {
	capacity := withPods(facts.Capacity, m.config.MaxPods)
	allocatable := capacity
	if facts.Allocatable != nil {
		allocatable = withPods(facts.Allocatable, m.config.MaxPods)
	}
	for name, q := range s.Capacity {
		if _, ours := capacity[name]; !ours && isExtended(name) {
			capacity[name], allocatable[name] = q, q
		}
	}
	s.Capacity, s.Allocatable = capacity, allocatable
}

// isExtended reports whether a resource is neither Kubernetes' own nor a quota's.
// See https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/.
func isExtended(name v1.ResourceName) bool {
	domain, _, found := strings.Cut(string(name), "/")
	return found && !strings.Contains(domain, "kubernetes.io")
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
	ctx, cancel := context.WithTimeout(ctx, m.questionTimeout())
	defer cancel()
	images, err := m.Runtime.ListImages(ctx)
	if err != nil {
		m.Log.Warn("Could not list the images", "err", err)
		return
	}
	s.Images = make([]v1.ContainerImage, 0, min(len(images), maxImages))
	for _, image := range images[:min(len(images), maxImages)] {
		names := image.Names[:min(len(image.Names), maxImageNames)]
		s.Images = append(s.Images, v1.ContainerImage{Names: names, SizeBytes: image.Size})
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
