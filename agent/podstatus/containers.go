package podstatus

import (
	"cmp"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

// Reasons of container states, as the kubelet gives them.
const (
	reasonContainerCreating = "ContainerCreating"
	reasonPodInitializing   = "PodInitializing"
	reasonStatusUnknown     = "ContainerStatusUnknown"
	reasonCompleted         = "Completed"
	lostMessage             = "The container could not be located when the pod was terminated"
	initLostMessage         = "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
	lostExitCode            = 137
)

// containerStatuses returns the statuses of the containers in the spec's order.
func (in *Input) containerStatuses(containers []v1.Container, previous []v1.ContainerStatus) []v1.ContainerStatus {
	if len(containers) == 0 {
		return nil
	}
	statuses := make([]v1.ContainerStatus, 0, len(containers))
	ended := in.finalPhase() != ""
	for i := range containers {
		c := &containers[i]
		old := find(previous, c.Name)
		status := in.containerStatus(c, old)
		if ended && status.State.Waiting != nil && old != nil && old.State.Terminated != nil {
			// In a pod that has ended nothing starts again.
			status = *old.DeepCopy()
		}
		in.setReady(c, &status, old)
		statuses = append(statuses, status)
	}
	return statuses
}

// ephemeralStatuses are those of the ephemeral containers, which are never called
// started or ready.
func (in *Input) ephemeralStatuses() []v1.ContainerStatus {
	var statuses []v1.ContainerStatus
	for i := range in.Desired.Pod.Spec.EphemeralContainers {
		c := v1.Container(in.Desired.Pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		old := find(in.Previous.EphemeralContainerStatuses, c.Name)
		statuses = append(statuses, in.containerStatus(&c, old))
	}
	return statuses
}

func find(statuses []v1.ContainerStatus, name string) *v1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// containerStatus returns the status of one container but for its readiness.
func (in *Input) containerStatus(c *v1.Container, old *v1.ContainerStatus) v1.ContainerStatus {
	cur := in.Observed.Container(c.Name)
	if cur == nil || precedes(cur, old) {
		return in.absent(c, old)
	}
	status := v1.ContainerStatus{
		Name:         c.Name,
		Image:        cur.Image,
		ImageID:      cmp.Or(cur.ImageRef, cur.ImageID),
		ContainerID:  in.containerID(cur),
		RestartCount: int32(cur.Attempt),
		VolumeMounts: in.volumeMounts(c),
	}
	if old != nil {
		// The runtime may have lost newer incarnations.
		status.RestartCount = max(status.RestartCount, old.RestartCount)
	}
	setResources(c, cur, &status)
	status.LastTerminationState = in.lastTermination(c, cur, old)
	switch cur.State {
	case pod.ContainerRunning:
		if _, ok := in.Waiting[c.Name]; ok {
			status.State = in.waitingState(c)
			break
		}
		status.State.Running = &v1.ContainerStateRunning{StartedAt: timeOf(cur.StartedAt)}
	case pod.ContainerExited:
		status.State.Terminated = in.terminated(cur)
		if w, ok := in.Waiting[c.Name]; ok {
			status.LastTerminationState.Terminated = status.State.Terminated
			status.State = waiting(w.Reason, w.Message)
		}
	case pod.ContainerCreated:
		status.State = in.waitingState(c)
	default:
		in.unknown(c, old, &status)
	}
	return status
}

// precedes reports whether a container had ended when the incarnation that the
// status tells of began. While a pod is removed its containers go one by one, and
// what is left may be an older one.
func precedes(c *pod.Container, old *v1.ContainerStatus) bool {
	if old == nil || c.State != pod.ContainerExited || int32(c.Attempt) >= old.RestartCount {
		return false
	}
	var began metav1.Time
	switch last := ended(old); {
	case old.State.Running != nil:
		began = old.State.Running.StartedAt
	case last != nil:
		began = last.StartedAt
	}
	finished := timeOf(c.FinishedAt)
	return !finished.After(began.Time)
}

// unknown is the state of a container of which the runtime cannot say what it
// does.
func (in *Input) unknown(c *v1.Container, old *v1.ContainerStatus, status *v1.ContainerStatus) {
	if old != nil && old.State.Running != nil {
		status.State.Terminated = lost()
		return
	}
	status.State = in.waitingState(c)
}

// absent is the status of a container of which the runtime has nothing.
func (in *Input) absent(c *v1.Container, old *v1.ContainerStatus) v1.ContainerStatus {
	status := v1.ContainerStatus{
		Name:         c.Name,
		Image:        c.Image,
		VolumeMounts: in.volumeMounts(c),
		State:        in.waitingState(c),
	}
	setResources(c, nil, &status)
	if in.initLost(c) {
		status.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{Reason: reasonCompleted, Message: initLostMessage}}
	}
	if old == nil {
		return status
	}
	status.RestartCount = old.RestartCount
	status.LastTerminationState = old.LastTerminationState
	switch {
	case old.State.Terminated != nil:
		// It has ended and was removed since.
		status = *old.DeepCopy()
	case in.initLost(c):
	case old.State.Running != nil && in.Phase == pod.Syncing:
		// It vanished while it was to run; it will be started again.
		status.LastTerminationState.Terminated = lost()
	case old.State.Running != nil:
		status.State = v1.ContainerState{Terminated: lost()}
		status.ContainerID, status.ImageID = old.ContainerID, old.ImageID
	}
	return status
}

// initLost reports whether an init container has done its work for certain,
// though the runtime knows nothing of it any more.
func (in *Input) initLost(c *v1.Container) bool {
	if !in.isInit(c) || pod.IsSidecar(c) {
		return false
	}
	inits := in.Desired.Pod.Spec.InitContainers
	after := slices.IndexFunc(inits, func(i v1.Container) bool { return i.Name == c.Name }) + 1
	for _, later := range slices.Concat(inits[after:], in.Desired.Pod.Spec.Containers) {
		if in.Observed.Container(later.Name) != nil {
			return true
		}
	}
	return false
}

func lost() *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{Reason: reasonStatusUnknown, Message: lostMessage, ExitCode: lostExitCode}
}

// waitingState is the state of a container that was not started yet.
func (in *Input) waitingState(c *v1.Container) v1.ContainerState {
	if w := in.Waiting[c.Name]; w.Reason != "" {
		return waiting(w.Reason, w.Message)
	}
	if len(in.Desired.Pod.Spec.InitContainers) > 0 {
		return waiting(reasonPodInitializing, "")
	}
	return waiting(reasonContainerCreating, "")
}

func waiting(reason, message string) v1.ContainerState {
	return v1.ContainerState{Waiting: &v1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// lastTermination is how the incarnation before the newest ended.
func (in *Input) lastTermination(c *v1.Container, cur *pod.Container, old *v1.ContainerStatus) v1.ContainerState {
	if before := in.Observed.Previous(c.Name); before != nil && before.State == pod.ContainerExited {
		return v1.ContainerState{Terminated: in.terminated(before)}
	}
	if old == nil {
		return v1.ContainerState{}
	}
	if old.State.Terminated != nil && old.ContainerID != in.containerID(cur) {
		return v1.ContainerState{Terminated: old.State.Terminated}
	}
	if t := old.LastTerminationState.Terminated; t != nil && t.ContainerID != in.containerID(cur) {
		return v1.ContainerState{Terminated: t}
	}
	return v1.ContainerState{}
}

func (in *Input) terminated(c *pod.Container) *v1.ContainerStateTerminated {
	return &v1.ContainerStateTerminated{
		ExitCode:    c.ExitCode,
		Signal:      c.Signal,
		Reason:      c.Reason,
		Message:     c.Message,
		StartedAt:   timeOf(c.StartedAt),
		FinishedAt:  timeOf(c.FinishedAt),
		ContainerID: in.containerID(c),
	}
}

func (in *Input) containerID(c *pod.Container) string { return in.RuntimeName + "://" + c.ID }

// setReady sets started and ready. What the status said of the same container
// holds until its probes have said anything: after a restart of the agent they
// begin anew.
func (in *Input) setReady(c *v1.Container, status, old *v1.ContainerStatus) {
	cur := in.Observed.Container(c.Name)
	running := status.State.Running != nil
	var probes pod.ProbeResults
	if cur != nil {
		probes = in.Probes.Of(c.Name, cur.ID)
	}
	same := old != nil && old.ContainerID == status.ContainerID
	passed := func(p *v1.Probe, result pod.Result, before bool) bool {
		return p == nil || result == pod.ResultSuccess || result == pod.ResultUnknown && before
	}
	started := running && passed(c.StartupProbe, probes.Startup, same && old.Started != nil && *old.Started)
	status.Started = &started
	switch {
	case in.isInit(c) && !pod.IsSidecar(c):
		t := status.State.Terminated
		status.Ready = t != nil && t.ExitCode == 0
	case started:
		status.Ready = passed(c.ReadinessProbe, probes.Readiness, same && old.Ready)
	}
}

func (in *Input) isInit(c *v1.Container) bool {
	_, init := pod.ContainerSpec(in.Desired.Pod, c.Name)
	return init
}

// setResources sets what the node has granted and, where it is known to differ,
// what the container has.
func setResources(c *v1.Container, cur *pod.Container, status *v1.ContainerStatus) {
	if len(c.Resources.Requests) > 0 {
		status.AllocatedResources = c.Resources.Requests
	}
	resources := c.Resources
	if cur != nil && cur.State == pod.ContainerRunning && cur.Resources != nil {
		resources = cur.Resources.Actual(resources)
	}
	status.Resources = &resources
}

// volumeMounts echoes the container's mounts, and says which are read-only with all
// that is mounted below.
func (in *Input) volumeMounts(c *v1.Container) []v1.VolumeMountStatus {
	var mounts []v1.VolumeMountStatus
	for i := range c.VolumeMounts {
		m := &c.VolumeMounts[i]
		status := v1.VolumeMountStatus{Name: m.Name, MountPath: m.MountPath, ReadOnly: m.ReadOnly}
		if m.ReadOnly {
			mode := v1.RecursiveReadOnlyDisabled
			if recursive, err := pod.RecursiveReadOnly(m, in.RecursiveReadOnly); err == nil && recursive {
				mode = v1.RecursiveReadOnlyEnabled
			}
			status.RecursiveReadOnly = &mode
		}
		mounts = append(mounts, status)
	}
	return mounts
}

// timeOf cuts a time to the API's grain of a second, so that what comes back
// from the API server equals what was sent.
func timeOf(t time.Time) metav1.Time { return metav1.NewTime(t).Rfc3339Copy() }
