package docker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"k8s.io/kubelet/pkg/types"

	"nodelet/agent/pod"
)

// ListPods lists what the engine has of pods, with one call.
func (r *Runtime) ListPods(ctx context.Context) ([]pod.Observed, error) {
	at := time.Now()
	list, err := r.list(ctx, filters.Arg("label", labelType))
	if err != nil {
		return nil, err
	}
	var order []pod.UID
	byUID := map[pod.UID]*pod.Observed{}
	for i := range list {
		labels := list[i].Labels
		uid := pod.UID(labels[types.KubernetesPodUIDLabel])
		o, ok := byUID[uid]
		if !ok {
			o = &pod.Observed{UID: uid, At: at,
				Namespace: labels[types.KubernetesPodNamespaceLabel], Name: labels[types.KubernetesPodNameLabel]}
			byUID[uid], order = o, append(order, uid)
		}
		addSummary(o, &list[i])
	}
	all := make([]pod.Observed, 0, len(order))
	for _, uid := range order {
		sortObserved(byUID[uid])
		all = append(all, *byUID[uid])
	}
	return all, nil
}

// addSummary adds a container as a list shows it.
func addSummary(o *pod.Observed, c *container.Summary) {
	created := time.Unix(c.Created, 0)
	if c.Labels[labelType] == typeSandbox {
		o.Sandboxes = append(o.Sandboxes, pod.Sandbox{ID: c.ID, Attempt: attemptOf(c.Labels),
			Ready: c.State == container.StateRunning, CreatedAt: created})
		return
	}
	o.Containers = append(o.Containers, pod.Container{ID: c.ID, Name: c.Labels[types.KubernetesContainerNameLabel],
		SandboxID: c.Labels[labelSandbox], Attempt: attemptOf(c.Labels), State: stateOf(c.State),
		Hash: c.Labels[labelHash], CreatedAt: created})
}

func stateOf(state string) pod.ContainerState {
	switch state {
	case container.StateCreated:
		return pod.ContainerCreated
	case container.StateRunning, container.StatePaused, container.StateRestarting:
		return pod.ContainerRunning
	case container.StateExited, container.StateDead, container.StateRemoving:
		return pod.ContainerExited
	}
	return pod.ContainerUnknown
}

// InspectPod looks at each container of one pod.
func (r *Runtime) InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error) {
	o := pod.Observed{UID: uid, At: time.Now()}
	list, err := r.list(ctx, filters.Arg("label", types.KubernetesPodUIDLabel+"="+string(uid)), filters.Arg("label", labelType))
	if err != nil {
		return o, fmt.Errorf("pod %s: %w", uid, err)
	}
	for i := range list {
		o.Namespace = list[i].Labels[types.KubernetesPodNamespaceLabel]
		o.Name = list[i].Labels[types.KubernetesPodNameLabel]
		if c, ok := r.ended.get(list[i].ID); ok && list[i].State == container.StateExited {
			o.Containers = append(o.Containers, c)
			continue
		}
		c, err := r.inspect(ctx, list[i].ID)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return o, fmt.Errorf("pod %s: %w", uid, err)
		}
		if c.Config.Labels[labelType] == typeSandbox {
			o.Sandboxes = append(o.Sandboxes, sandboxOf(&c))
			continue
		}
		o.Containers = append(o.Containers, r.containerOf(ctx, &c))
	}
	sortObserved(&o)
	return o, nil
}

func sortObserved(o *pod.Observed) {
	slices.SortFunc(o.Sandboxes, func(a, b pod.Sandbox) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(o.Containers, func(a, b pod.Container) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

func sandboxOf(c *container.InspectResponse) pod.Sandbox {
	s := pod.Sandbox{ID: c.ID, Attempt: attemptOf(c.Config.Labels), Ready: c.State.Running, CreatedAt: timeOf(c.Created)}
	if !s.Ready || c.HostConfig.NetworkMode.IsHost() {
		return s
	}
	for _, network := range c.NetworkSettings.Networks {
		for _, ip := range []string{network.IPAddress, network.GlobalIPv6Address} {
			if ip != "" {
				s.IPs = append(s.IPs, ip)
			}
		}
	}
	return s
}

// containerOf is a container as it is. The engine leaves one whose start failed
// in state created, with an exit code; to Kubernetes it has ended.
func (r *Runtime) containerOf(ctx context.Context, c *container.InspectResponse) pod.Container {
	labels := c.Config.Labels
	o := pod.Container{
		ID: c.ID, Name: labels[types.KubernetesContainerNameLabel], SandboxID: labels[labelSandbox],
		Attempt: attemptOf(labels), State: stateOf(c.State.Status), Hash: labels[labelHash],
		CreatedAt: timeOf(c.Created), StartedAt: timeOf(c.State.StartedAt),
		Image: labels[labelImage], ImageID: c.Image, ImageRef: labels[labelImageRef], TerminationGrace: graceOf(labels),
		PreStop: preStopOf(labels), Resources: observedResources(&c.HostConfig.Resources),
	}
	if o.State == pod.ContainerCreated && c.State.ExitCode != 0 {
		o.State = pod.ContainerExited
	}
	if o.State != pod.ContainerExited {
		return o
	}
	o.ExitCode, o.FinishedAt = int32(c.State.ExitCode), timeOf(c.State.FinishedAt)
	switch {
	case o.FinishedAt.IsZero() || o.StartedAt.IsZero():
		o.Reason, o.Message = "ContainerCannotRun", c.State.Error
		o.StartedAt, o.FinishedAt = o.CreatedAt, o.CreatedAt
		return o
	case c.State.OOMKilled:
		o.Reason = "OOMKilled"
	case c.State.ExitCode == 0:
		o.Reason = "Completed"
	default:
		o.Reason = "Error"
	}
	o.Message = r.terminationMessage(ctx, c)
	// The engine may hear only later that it was memory for which one was killed.
	final := o.ExitCode != exitKilled || c.State.OOMKilled
	if final && c.State.Status == container.StateExited && ctx.Err() == nil {
		r.ended.put(o)
	}
	return o
}

// timeOf reads the engine's times; its zero is the year 1.
func timeOf(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// exitKilled is the exit code after SIGKILL.
const exitKilled = 137

// endedCache remembers containers that have ended: nothing of them changes any
// more unless they are started again, which a list shows.
type endedCache struct {
	mu  sync.Mutex
	all map[string]pod.Container
}

func (e *endedCache) get(id string) (pod.Container, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.all[id]
	return c, ok
}

func (e *endedCache) put(c pod.Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[string]pod.Container{}
	}
	e.all[c.ID] = c
}

func (e *endedCache) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.all, id)
}
