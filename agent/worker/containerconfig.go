package worker

import (
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// hostname is the name inside the pod: the spec's, or the pod's own, cut to
// what a host name may be.
func hostname(p *v1.Pod) string {
	name := p.Spec.Hostname
	if name == "" {
		name = p.Name
	}
	const limit = 63
	if len(name) > limit {
		name = name[:limit]
	}
	return name
}

// containerConfig is what the runtime is to make of a container's spec.
func containerConfig(p *v1.Pod, c *v1.Container, attempt uint32, imageID string) podruntime.ContainerConfig {
	config := podruntime.ContainerConfig{
		Pod: p, Container: c, Attempt: attempt, ImageID: imageID, Hash: pod.ContainerHash(c),
		Command: c.Command, Args: c.Args,
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			config.Env = append(config.Env, podruntime.EnvVar{Name: e.Name, Value: e.Value})
		}
	}
	return config
}

func imageOf(p *v1.Pod, name string) string {
	if c, _ := pod.ContainerSpec(p, name); c != nil {
		return c.Image
	}
	return ""
}
