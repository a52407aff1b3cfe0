package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	nodeutil "k8s.io/component-helpers/node/util"

	"nodelet/agent"
	"nodelet/agent/kubeapi"
	"nodelet/agent/machine"
)

// settings are options that were read and found good.
type settings struct {
	agent   agent.Config
	machine machine.Config
	runtime runtimeOptions
	api     *kubeapi.Client
	healthz healthzOptions
}

// faults collects what is wrong.
type faults []error

// add adds a fault: field, value and what is allowed. Text is quoted.
func (f *faults) add(field string, value any, allowed string) {
	if text, ok := value.(string); ok {
		value = fmt.Sprintf("%q", text)
	}
	*f = append(*f, fmt.Errorf("%s: %v: must be %s", field, value, allowed))
}

// settle reads the options. An error names every fault; nothing is dialed.
func (o *options) settle() (*settings, error) {
	var f faults
	s := &settings{agent: o.agent, runtime: o.runtime, healthz: o.healthz}
	a := &s.agent
	name, err := nodeutil.GetHostname(o.hostnameOverride)
	if err != nil {
		f = append(f, fmt.Errorf("--hostname-override: %q: %w", o.hostnameOverride, err))
	}
	a.NodeName = name
	a.NodeIPs = o.nodeIPs(&f)
	for _, path := range []*string{&a.StaticPodPath, &a.ResolvConf} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			f = append(f, fmt.Errorf("%s: %w", *path, err))
		}
	}
	if o.serializeImagePulls {
		a.MaxParallelImagePulls = 1
		if before := o.agent.MaxParallelImagePulls; before > 1 && before != agent.DefaultConfig().MaxParallelImagePulls {
			f.add("--max-parallel-image-pulls", before, "1 with --serialize-image-pulls")
		}
	}
	if err := a.Validate(); err != nil {
		f = append(f, err)
	}
	s.machine = machine.Config{RootDir: a.RootDir, NodeName: a.NodeName, NodeIPs: a.NodeIPs,
		ExternalCloudProvider: a.CloudProvider == agent.CloudProviderExternal, Reserved: o.reserved(&f)}
	if err := s.machine.Validate(); err != nil {
		f = append(f, err)
	}
	o.settleRuntime(&s.runtime, &f)
	o.checkRest(&f)
	s.api = o.connect(&f)
	return s, errors.Join(f...)
}

// nodeIPs reads --node-ip.
func (o *options) nodeIPs(f *faults) []net.IP {
	ips, unknown, err := nodeutil.ParseNodeIPArgument(o.nodeIP, o.agent.CloudProvider)
	if err != nil && len(unknown) == 0 {
		f.add("--node-ip", o.nodeIP, "one address, or one of each family, neither of them all zeros")
	}
	for _, ip := range unknown {
		f.add("--node-ip", ip, "an IP address")
	}
	return ips
}

// connect makes the client of the API server; nil for none.
func (o *options) connect(f *faults) *kubeapi.Client {
	server := ""
	if len(o.apiServers) > 0 {
		server = o.apiServers[0]
	}
	var client *kubeapi.Client
	var err error
	field := "--kubeconfig"
	switch {
	case o.kubeconfig != "":
		client, err = kubeapi.FromKubeconfig(o.kubeconfig, server, o.api)
	case server != "":
		field = "--api-servers"
		client, err = kubeapi.FromServer(server, o.api)
	case o.agent.StaticPodPath != "" || o.agent.StaticPodURL != "":
		return nil
	default:
		err = errors.New("must name a file, or --api-servers a server; or, to run static pods without an API server, --pod-manifest-path or --manifest-url where they are")
	}
	if err != nil {
		*f = append(*f, fmt.Errorf("%s: %w", field, err))
	}
	return client
}

// settleRuntime reads what is the container runtime's.
func (o *options) settleRuntime(r *runtimeOptions, f *faults) {
	r.RootDir = o.agent.RootDir
	endpoint, err := url.Parse(r.Endpoint)
	switch {
	case err == nil && endpoint.Scheme == "unix" && endpoint.Host == "" && filepath.IsAbs(endpoint.Path):
	case err == nil && endpoint.Scheme == "tcp" && endpoint.Host != "":
	default:
		f.add("--docker-endpoint", r.Endpoint, "such as unix:///var/run/docker.sock or tcp://192.0.2.1:2375")
	}
	size, err := resource.ParseQuantity(o.containerLogMaxSize)
	if r.LogMaxSize = size.Value(); err != nil || r.LogMaxSize <= 0 {
		f.add("containerLogMaxSize", o.containerLogMaxSize, "a quantity above 0, such as 10Mi")
	}
	if r.LogMaxFiles < 2 {
		f.add("containerLogMaxFiles", r.LogMaxFiles, "2 or more")
	}
	if r.ImagePullProgressDeadline <= 0 {
		f.add("--image-pull-progress-deadline", r.ImagePullProgressDeadline, "more than 0")
	}
}

// checkRest checks what is neither the agent's nor the runtime's.
func (o *options) checkRest(f *faults) {
	for _, n := range []struct {
		field string
		value float64
	}{
		{"kubeAPIQPS", float64(o.api.QPS)}, {"kubeAPIBurst", float64(o.api.Burst)},
		{"eventRecordQPS", float64(o.api.EventQPS)}, {"eventBurst", float64(o.api.EventBurst)},
		{"logging.verbosity", float64(o.log.verbosity)},
	} {
		if !(n.value >= 0) {
			f.add(n.field, n.value, "0 or more")
		}
	}
	if net.ParseIP(o.healthz.address) == nil {
		f.add("healthzBindAddress", o.healthz.address, "an IP address")
	}
	if o.healthz.port < 0 || o.healthz.port > 65535 {
		f.add("healthzPort", o.healthz.port, "from 0 to 65535")
	}
	if o.log.format != logText && o.log.format != logJSON {
		f.add("logging.format", o.log.format, "text or json")
	}
}

// defaultEvictionHard are the kubelet's hard eviction thresholds.
var defaultEvictionHard = map[string]string{"memory.available": "100Mi", "nodefs.available": "10%",
	"nodefs.inodesFree": "5%", "imagefs.available": "15%", "imagefs.inodesFree": "5%"}

// evictionSignals are what thresholds may be of.
var evictionSignals = []string{"memory.available", "allocatableMemory.available", "nodefs.available", "nodefs.inodesFree",
	"imagefs.available", "imagefs.inodesFree", "containerfs.available", "containerfs.inodesFree", "pid.available"}

// reserved reads what is held back from pods.
func (o *options) reserved(f *faults) machine.Reserved {
	r := machine.Reserved{
		System: quantities("systemReserved", o.systemReserved, f),
		Kube:   quantities("kubeReserved", o.kubeReserved, f),
	}
	eviction := maps.Clone(o.evictionHard)
	if o.mergeEvictionDefaults {
		eviction = maps.Clone(defaultEvictionHard)
		maps.Copy(eviction, o.evictionHard)
	}
	for _, signal := range slices.Sorted(maps.Keys(eviction)) {
		value := eviction[signal]
		if !slices.Contains(evictionSignals, signal) {
			f.add("evictionHard", signal, "one of "+strings.Join(evictionSignals, ", "))
			continue
		}
		threshold, err := machine.ParseThreshold(value)
		if err != nil {
			*f = append(*f, fmt.Errorf("evictionHard.%s: %w", signal, err))
		}
		switch {
		case value == "100%":
			// So the kubelet is told to have no threshold.
		case signal == "memory.available":
			r.EvictionMemory = threshold
		case signal == "nodefs.available":
			r.EvictionNodefs = threshold
		}
	}
	return r
}

// quantities reads what is reserved of each resource.
func quantities(field string, from map[string]string, f *faults) v1.ResourceList {
	list := v1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		switch v1.ResourceName(name) {
		case v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage, "pid":
		default:
			f.add(field, name, "one of cpu, memory, ephemeral-storage, pid")
			continue
		}
		q, err := resource.ParseQuantity(from[name])
		if err != nil || q.Sign() < 0 {
			f.add(field+"."+name, from[name], "a quantity of 0 or more")
			continue
		}
		list[v1.ResourceName(name)] = q
	}
	return list
}
