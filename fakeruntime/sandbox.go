package fakeruntime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// sandbox is one incarnation of a pod's sandbox.
type sandbox struct {
	pod.Sandbox
	owner *podState
	ip    netip.Addr
	// died: it ended without the agent having asked for that.
	died bool
}

// RunSandbox implements podruntime.Sandboxes.
func (r *Runtime) RunSandbox(ctx context.Context, config podruntime.SandboxConfig) (string, error) {
	id, err := r.runSandbox(ctx, config)
	if err != nil {
		return "", fmt.Errorf("running sandbox %d of pod %s: %w", config.Attempt, pod.FullName(config.Pod), err)
	}
	return id, nil
}

func (r *Runtime) runSandbox(ctx context.Context, config podruntime.SandboxConfig) (string, error) {
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	if s := r.findSandbox(config); s != nil && s.Ready {
		r.unlock()
		return s.ID, nil
	}
	var behavior Behavior
	if c := config.Pod.Spec.Containers; len(c) > 0 {
		behavior = r.script(config.Pod, &c[0], 0)
	}
	latency := r.draw(behavior.Sandbox, uint64(config.Attempt), string(config.Pod.UID), "sandbox")
	var s *sandbox
	op := r.begin(latency, func() (err error) {
		if behavior.SandboxError != "" {
			return errors.New(behavior.SandboxError)
		}
		s, err = r.makeSandbox(config)
		return err
	})
	r.unlock()
	if err := op.wait(ctx); err != nil {
		return "", err
	}
	return s.ID, nil
}

func (r *Runtime) findSandbox(config podruntime.SandboxConfig) *sandbox {
	p := r.pods[pod.UID(config.Pod.UID)]
	if p == nil {
		return nil
	}
	for _, s := range p.sandboxes {
		if s.Attempt == config.Attempt {
			return s
		}
	}
	return nil
}

// makeSandbox is the end of RunSandbox.
func (r *Runtime) makeSandbox(config podruntime.SandboxConfig) (*sandbox, error) {
	if s := r.findSandbox(config); s != nil {
		if s.Ready {
			// A call that came earlier has made it.
			return s, nil
		}
		r.removeSandbox(s)
		defer r.forgetEmpty(s.owner)
	}
	s := &sandbox{Sandbox: pod.Sandbox{Attempt: config.Attempt, Ready: true, CreatedAt: r.now}}
	if !config.Pod.Spec.HostNetwork {
		ip, err := r.allocateIP()
		if err != nil {
			return nil, err
		}
		s.ip, s.IPs = ip, []string{ip.String()}
	}
	s.ID = r.newID(string(config.Pod.UID), "POD")
	s.owner = r.podOf(config.Pod)
	s.owner.sandboxes = slices.Insert(s.owner.sandboxes, 0, s)
	if r.sandboxes == nil {
		r.sandboxes = map[string]*sandbox{}
	}
	r.sandboxes[s.ID] = s
	r.checkSandbox(s)
	r.changed(s.owner)
	return s, nil
}

// StopSandbox implements podruntime.Sandboxes.
func (r *Runtime) StopSandbox(ctx context.Context, id string) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("stopping sandbox %s: %w", id, err)
	}
	defer r.unlock()
	if s := r.sandboxes[id]; s != nil {
		r.stopSandbox(s, exitKilled)
	}
	return nil
}

// stopSandbox ends a sandbox and all that runs in it.
func (r *Runtime) stopSandbox(s *sandbox, exitCode int32) {
	for _, c := range s.owner.containers {
		if c.sandbox == s && c.State == pod.ContainerRunning {
			r.end(c, exitCode, reasonError, "")
		}
	}
	if s.Ready {
		s.Ready, s.ip, s.IPs = false, netip.Addr{}, nil
		r.changed(s.owner)
	}
}

// RemoveSandbox implements podruntime.Sandboxes.
func (r *Runtime) RemoveSandbox(ctx context.Context, id string) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("removing sandbox %s: %w", id, err)
	}
	defer r.unlock()
	if s := r.sandboxes[id]; s != nil {
		r.removeSandbox(s)
		r.forgetEmpty(s.owner)
	}
	return nil
}

// removeSandbox leaves the pod's state in place, even if it is empty.
func (r *Runtime) removeSandbox(s *sandbox) {
	r.stopSandbox(s, exitKilled)
	p := s.owner
	p.containers = slices.DeleteFunc(p.containers, func(c *container) bool {
		if c.sandbox == s {
			delete(r.containers, c.ID)
		}
		return c.sandbox == s
	})
	p.sandboxes = slices.DeleteFunc(p.sandboxes, func(other *sandbox) bool { return other == s })
	delete(r.sandboxes, s.ID)
	r.changed(p)
}

// ListPods implements podruntime.Sandboxes. It leaves nothing out, and lists by
// UID so that runs repeat.
func (r *Runtime) ListPods(ctx context.Context) ([]pod.Observed, error) {
	if err := r.enter(ctx); err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	defer r.unlock()
	all := make([]pod.Observed, 0, len(r.pods))
	for _, uid := range slices.Sorted(maps.Keys(r.pods)) {
		all = append(all, r.observe(r.pods[uid]))
	}
	return all, nil
}

// InspectPod implements podruntime.Sandboxes.
func (r *Runtime) InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error) {
	if err := r.enter(ctx); err != nil {
		return pod.Observed{}, fmt.Errorf("inspecting pod %s: %w", uid, err)
	}
	defer r.unlock()
	if p := r.pods[uid]; p != nil {
		return r.observe(p), nil
	}
	return pod.Observed{UID: uid, At: r.now}, nil
}

func (r *Runtime) observe(p *podState) pod.Observed {
	o := pod.Observed{UID: p.uid, Namespace: p.namespace, Name: p.name, At: r.now}
	o.Sandboxes = make([]pod.Sandbox, len(p.sandboxes))
	for i, s := range p.sandboxes {
		o.Sandboxes[i] = s.Sandbox
	}
	o.Containers = make([]pod.Container, len(p.containers))
	for i, c := range p.containers {
		o.Containers[i] = c.Container
	}
	return o
}

// allocateIP returns the address that follows the one handed out last and is
// free: an address is used again as late as possible. The first address of the
// range is the network's own, the second its gateway's, the last one for
// broadcasts.
func (r *Runtime) allocateIP() (netip.Addr, error) {
	first := r.podCIDR.Addr().Next().Next()
	next := r.lastIP.Next()
	for wrapped := false; ; next = next.Next() {
		if !next.IsValid() || !r.podCIDR.Contains(next) || next.Is4() && !r.podCIDR.Contains(next.Next()) {
			if wrapped {
				return netip.Addr{}, fmt.Errorf("no free address in %s", r.podCIDR)
			}
			wrapped, next = true, first
			if !r.podCIDR.Contains(first) {
				return netip.Addr{}, fmt.Errorf("no address for pods in %s", r.podCIDR)
			}
		}
		if next != r.hostIP && !r.inUse(next) {
			r.lastIP = next
			return next, nil
		}
	}
}

func (r *Runtime) inUse(ip netip.Addr) bool {
	for _, s := range r.sandboxes {
		if s.ip == ip {
			return true
		}
	}
	return false
}
