package worker

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strconv"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podruntime"
)

// reasonConfig is the waiting reason of a container whose configuration cannot
// be made, as with the kubelet.
const reasonConfig = "CreateContainerConfigError"

const (
	hostsPath = "/etc/hosts"
	// hostsFile is where a pod's hosts file is in its directory.
	hostsFile = "etc-hosts"
)

// sandboxConfig is what the runtime is to make of a pod's spec.
func (w *Worker) sandboxConfig(p *v1.Pod, attempt uint32) (podruntime.SandboxConfig, error) {
	config := podruntime.SandboxConfig{Pod: p, Attempt: attempt}
	var err error
	if config.Hostname, err = podenv.SandboxHostname(p, w.config.ClusterDNS.Domain); err != nil {
		return config, err
	}
	if config.DNS, err = w.dns(p); err != nil {
		return config, err
	}
	if w.config.PodLogsDirectory != "" {
		config.LogDirectory = filepath.Join(w.config.PodLogsDirectory, p.Namespace+"_"+p.Name+"_"+string(p.UID))
	}
	if w.config.CgroupOf != nil {
		config.CgroupParent = w.config.CgroupOf(p)
	}
	return config, nil
}

// dns is the pod's resolver configuration; nil where the machine has none to
// begin with.
func (w *Worker) dns(p *v1.Pod) (*v1.PodDNSConfig, error) {
	node := podenv.NoResolvConf(w.Host.IPs())
	if w.config.ResolvConf != "" {
		data, err := w.Host.ReadFile(w.config.ResolvConf)
		if err != nil {
			return nil, fmt.Errorf("reading the machine's resolver configuration: %w", err)
		}
		if node, err = podenv.ParseResolvConf(bytes.NewReader(data)); err != nil {
			return nil, fmt.Errorf("%s: %w", w.config.ResolvConf, err)
		}
	}
	config, events := podenv.DNS(p, node, w.config.ClusterDNS)
	for _, e := range events {
		w.Event(e)
	}
	return config, nil
}

// containerConfig is what the runtime is to make of a container's spec.
func (w *Worker) containerConfig(ctx context.Context, t task, c *v1.Container, image podruntime.Image) (podruntime.ContainerConfig, error) {
	p := t.desired.Pod
	config := podruntime.ContainerConfig{Pod: p, Container: c, Attempt: t.action.Attempt,
		ImageID: image.ID, ImageRef: image.Ref, Hash: pod.ContainerHash(c), LogPath: path.Join(c.Name, strconv.Itoa(int(t.action.Attempt))+".log")}
	var err error
	if config.Target, err = target(t, c.Name); err != nil {
		return config, err
	}
	if err := verifyNonRoot(p, c, image.User); err != nil {
		return config, err
	}
	env, err := w.environment(ctx, t, c)
	if err != nil {
		return config, err
	}
	config.Env = env
	config.Command, config.Args = podenv.Expand(c.Command, env), podenv.Expand(c.Args, env)
	if config.Mounts, err = w.Volumes.Mounts(p, c, env); err != nil {
		return config, err
	}
	return config, w.ownMounts(t, c, &config)
}

// target is the container whose processes an ephemeral one is to see; "" for none.
func target(t task, name string) (id string, err error) {
	e := pod.EphemeralContainer(t.desired.Pod, name)
	if e == nil || e.TargetContainerName == "" {
		return "", nil
	}
	cur := t.observed.Container(e.TargetContainerName)
	if cur == nil {
		return "", fmt.Errorf("unable to find target container %s", e.TargetContainerName)
	}
	return cur.ID, nil
}

// environment resolves the container's variables.
func (w *Worker) environment(ctx context.Context, t task, c *v1.Container) ([]podruntime.EnvVar, error) {
	p := t.desired.Pod
	var services []*v1.Service
	if t.desired.Source == pod.SourceAPI {
		// A static pod runs without an API server, so it is told of none.
		var err error
		if services, err = w.Host.Services(ctx, p.Namespace); err != nil {
			return nil, err
		}
	}
	node := w.Host.Node()
	return podenv.Resolve(podenv.Input{
		Pod: p, Container: c, PodIPs: ipsOf(t.observed), HostIPs: w.Host.IPs(), NodeName: node.Name,
		Allocatable: node.Status.Allocatable, Services: services,
		ConfigMap: func(name string) (*v1.ConfigMap, error) { return w.Objects.ConfigMap(ctx, p.Namespace, name) },
		Secret:    func(name string) (*v1.Secret, error) { return w.Objects.Secret(ctx, p.Namespace, name) },
	})
}

func ipsOf(o pod.Observed) []string {
	if s := o.Sandbox(); s != nil {
		return s.IPs
	}
	return nil
}

// ownMounts adds the files that every container gets from the agent, unless it
// mounts something else there: its hosts file and its termination message.
func (w *Worker) ownMounts(t task, c *v1.Container, config *podruntime.ContainerConfig) error {
	p := t.desired.Pod
	add := func(target, name string, content []byte) error {
		for _, m := range config.Mounts {
			if path.Clean(m.ContainerPath) == path.Clean(target) {
				return nil
			}
		}
		file, err := w.Volumes.File(pod.UID(p.UID), name, content)
		if err != nil || file == "" {
			return err
		}
		config.Mounts = append(config.Mounts, podruntime.Mount{HostPath: file, ContainerPath: target})
		return nil
	}
	hosts, err := w.hosts(t)
	if err != nil {
		return err
	}
	if err := add(hostsPath, hostsFile, hosts); err != nil {
		return fmt.Errorf("writing the hosts file: %w", err)
	}
	if c.TerminationMessagePath == "" {
		return nil
	}
	name := path.Join("containers", c.Name, strconv.Itoa(int(t.action.Attempt))+"-"+config.Hash)
	if err := add(c.TerminationMessagePath, name, nil); err != nil {
		return fmt.Errorf("making the file of the termination message: %w", err)
	}
	return nil
}

func (w *Worker) hosts(t task) ([]byte, error) {
	p := t.desired.Pod
	if p.Spec.HostNetwork {
		node, err := w.Host.ReadFile(hostsPath)
		if err != nil {
			return nil, fmt.Errorf("reading the machine's hosts file: %w", err)
		}
		return podenv.HostNetworkHosts(node, p.Spec.HostAliases), nil
	}
	hostname, domain, err := podenv.Hostname(p, w.config.ClusterDNS.Domain)
	if err != nil {
		return nil, err
	}
	return podenv.Hosts(ipsOf(t.observed), hostname, domain, p.Spec.HostAliases), nil
}

// verifyNonRoot says why a container that must not run as root may do so.
// imageUser is the user that the image names.
func verifyNonRoot(p *v1.Pod, c *v1.Container, imageUser string) error {
	var nonRoot *bool
	var user *int64
	if sc := p.Spec.SecurityContext; sc != nil {
		nonRoot, user = sc.RunAsNonRoot, sc.RunAsUser
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsNonRoot != nil {
			nonRoot = sc.RunAsNonRoot
		}
		if sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
	}
	if nonRoot == nil || !*nonRoot {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", fmt.Sprintf("%s_%s(%s)", p.Name, p.Namespace, p.UID), c.Name)
	if user != nil {
		if *user == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	number, err := strconv.ParseInt(imageUser, 10, 64)
	switch {
	case imageUser == "" || err == nil && number == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case err != nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", imageUser, where)
	}
	return nil
}
