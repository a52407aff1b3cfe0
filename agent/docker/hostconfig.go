package docker

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-connections/nat"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

const (
	// sandboxOOMScore keeps the pause container alive when memory runs out;
	// sandboxShares is the least share of the CPU there is.
	sandboxOOMScore = -998
	sandboxShares   = 2
	sharedMemory    = 64 << 20
)

// sandboxSpec is what the pause container is made with.
func (r *Runtime) sandboxSpec(config *podruntime.SandboxConfig, image string) (*container.Config, *container.HostConfig, error) {
	p := config.Pod
	spec := &container.Config{Image: image, Labels: sandboxLabels(config),
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}}
	host := &container.HostConfig{
		NetworkMode: "default", IpcMode: container.IPCModeShareable,
		SecurityOpt:   []string{"no-new-privileges"},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     r.logConfig(),
		OomScoreAdj:   r.oomScore(sandboxOOMScore),
		ShmSize:       sharedMemory,
		Sysctls:       sysctlsOf(p),
	}
	host.CPUShares, host.CgroupParent = sandboxShares, config.CgroupParent
	if p.Spec.HostNetwork {
		host.NetworkMode, host.UTSMode = "host", "host"
	} else {
		spec.Hostname = config.Hostname
		bindings, err := portBindings(p)
		if err != nil {
			return nil, nil, err
		}
		host.PortBindings, spec.ExposedPorts = bindings, nat.PortSet{}
		for port := range bindings {
			spec.ExposedPorts[port] = struct{}{}
		}
	}
	if p.Spec.HostIPC {
		host.IpcMode = container.IPCModeHost
	}
	if p.Spec.HostPID {
		host.PidMode = "host"
	}
	if dns := config.DNS; dns != nil {
		host.DNS, host.DNSSearch = dns.Nameservers, dns.Searches
		if len(host.DNSSearch) == 0 {
			// Without any, Docker would use the host's.
			host.DNSSearch = []string{"."}
		}
		for _, o := range dns.Options {
			option := o.Name
			if o.Value != nil {
				option += ":" + *o.Value
			}
			host.DNSOptions = append(host.DNSOptions, option)
		}
	}
	return spec, host, nil
}

func sysctlsOf(p *v1.Pod) map[string]string {
	sysctls := map[string]string{}
	if p.Spec.SecurityContext != nil {
		for _, s := range p.Spec.SecurityContext.Sysctls {
			sysctls[s.Name] = s.Value
		}
	}
	return sysctls
}

// portBindings are the host ports of the pod's containers.
func portBindings(p *v1.Pod) (nat.PortMap, error) {
	bindings := nat.PortMap{}
	for _, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			for _, port := range list[i].Ports {
				if port.HostPort == 0 {
					continue
				}
				protocol := string(port.Protocol)
				if protocol == "" {
					protocol = string(v1.ProtocolTCP)
				}
				inside, err := nat.NewPort(lower(protocol), strconv.Itoa(int(port.ContainerPort)))
				if err != nil {
					return nil, fmt.Errorf("container %s, port %d: %w", list[i].Name, port.ContainerPort, err)
				}
				binding := nat.PortBinding{HostIP: port.HostIP, HostPort: strconv.Itoa(int(port.HostPort))}
				if !slices.Contains(bindings[inside], binding) {
					bindings[inside] = append(bindings[inside], binding)
				}
			}
		}
	}
	return bindings, nil
}

func (r *Runtime) logConfig() container.LogConfig {
	config := container.LogConfig{Type: "json-file", Config: map[string]string{}}
	if r.config.LogMaxSize > 0 {
		config.Config["max-size"] = strconv.FormatInt(r.config.LogMaxSize, 10)
		config.Config["max-file"] = strconv.Itoa(max(r.config.LogMaxFiles, 1))
	}
	return config
}

// containerSpec is what a container of a pod is made with inside.
func (r *Runtime) containerSpec(sandbox *container.InspectResponse, config *podruntime.ContainerConfig) *container.Config {
	c := config.Container
	spec := &container.Config{
		Image: config.ImageID, Labels: containerLabels(sandbox.ID, config),
		Entrypoint: strslice.StrSlice(config.Command), Cmd: strslice.StrSlice(config.Args),
		WorkingDir: c.WorkingDir, User: userOf(config.Pod, c),
		OpenStdin: c.Stdin, StdinOnce: c.StdinOnce, Tty: c.TTY,
		// Probes are the agent's.
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}
	for _, e := range config.Env {
		spec.Env = append(spec.Env, e.Name+"="+e.Value)
	}
	return spec
}

// containerHost is what a container of a pod is made with outside. memory is
// the machine's, in bytes.
func (r *Runtime) containerHost(sandbox *container.InspectResponse, config *podruntime.ContainerConfig, memory int64) (*container.HostConfig, error) {
	p, c := config.Pod, config.Container
	join := "container:" + sandbox.ID
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(join), IpcMode: container.IpcMode(join),
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     r.logConfig(),
		Mounts:        mountsOf(config.Mounts),
		Resources:     resourcesOf(c.Resources),
		ShmSize:       sharedMemory,
	}
	host.CgroupParent = sandbox.HostConfig.CgroupParent
	host.OomScoreAdj = oomScoreOf(p, c, memory)
	if sandbox.HostConfig.OomScoreAdj >= 0 {
		// The sandbox could not have a negative one; see oomRefused.
		host.OomScoreAdj = max(host.OomScoreAdj, 0)
	}
	switch share := p.Spec.ShareProcessNamespace; {
	case p.Spec.HostPID:
		host.PidMode = "host"
	case config.Target != "":
		host.PidMode = container.PidMode("container:" + config.Target)
	case share != nil && *share:
		host.PidMode = container.PidMode(join)
	}
	if p.Spec.HostNetwork {
		host.UTSMode = "host"
	}
	for _, device := range c.VolumeDevices {
		return nil, fmt.Errorf("volumeDevices: %s: block devices are not supported", device.Name)
	}
	if err := r.secure(host, p, c); err != nil {
		return nil, err
	}
	return host, nil
}

// mountsOf are the binds as the engine wants them. A mount below another comes
// after it whatever the order; the engine sorts them itself.
func mountsOf(mounts []podruntime.Mount) []mount.Mount {
	var all []mount.Mount
	for _, m := range mounts {
		propagation := mount.PropagationRPrivate
		switch m.Propagation {
		case v1.MountPropagationBidirectional:
			propagation = mount.PropagationRShared
		case v1.MountPropagationHostToContainer:
			propagation = mount.PropagationRSlave
		}
		all = append(all, mount.Mount{Type: mount.TypeBind, Source: m.HostPath, Target: path.Clean(m.ContainerPath),
			ReadOnly: m.ReadOnly, BindOptions: &mount.BindOptions{Propagation: propagation}})
	}
	return all
}
