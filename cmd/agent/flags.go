package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// group is the flags of one subject.
type group struct {
	name  string
	flags *pflag.FlagSet
}

// groups are the command's flags, by subject, in the order of --help. What they
// are set to goes to o, whose values are their defaults.
func groups(o *options) []group {
	subjects := []struct {
		name string
		add  func(*pflag.FlagSet, *options)
	}{
		{"Cluster", clusterFlags}, {"Node", nodeFlags}, {"Pods", podFlags}, {"Static pods", staticFlags},
		{"Images", imageFlags}, {"Runtime", runtimeFlags}, {"Logging", logFlags},
	}
	var all []group
	for _, s := range subjects {
		flags := pflag.NewFlagSet(s.name, pflag.ContinueOnError)
		flags.SortFlags = false
		s.add(flags, o)
		all = append(all, group{s.name, flags})
	}
	return all
}

func clusterFlags(f *pflag.FlagSet, o *options) {
	f.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "`file` that says where the API server is and who this node is")
	f.StringVar(&o.config, "config", o.config, "a KubeletConfiguration `file`; or, as once, a folder or file of static pods")
	f.StringSliceVar(&o.apiServers, "api-servers", o.apiServers, "`URLs` of the API server, of which the first is used: in place of the kubeconfig's, or without one to be nobody there")
	f.Float32Var(&o.api.QPS, "kube-api-qps", o.api.QPS, "calls a second to the API server; 0 for any number")
	f.IntVar(&o.api.Burst, "kube-api-burst", o.api.Burst, "calls at once to the API server")
	f.Float32Var(&o.api.EventQPS, "event-qps", o.api.EventQPS, "events a second; 0 for any number")
	f.IntVar(&o.api.EventBurst, "event-burst", o.api.EventBurst, "events at once")
}

func nodeFlags(f *pflag.FlagSet, o *options) {
	c := &o.agent
	f.StringVar(&o.hostnameOverride, "hostname-override", o.hostnameOverride, "`name` of the node (default the host's name)")
	f.StringVar(&o.nodeIP, "node-ip", o.nodeIP, "`address` of the node, or one of each family with a comma between; 0.0.0.0 or :: for the default one of that family")
	f.BoolVar(&c.RegisterNode, "register-node", c.RegisterNode, "create the Node object; false keeps only the status of an existing one")
	f.Var(&pairs{values: &c.Labels, form: "key=value", bare: true}, "node-labels", "labels to register the node with")
	f.Var(&taints{list: &c.RegisterWithTaints}, "register-with-taints", "taints to register the node with")
	f.StringVar(&c.CloudProvider, "cloud-provider", c.CloudProvider, "external where a cloud controller manager sees to the node; else empty")
	f.StringVar(&c.ProviderID, "provider-id", c.ProviderID, "`ID` of the machine with its cloud")
	f.DurationVar(&c.NodeStatusUpdateFrequency, "node-status-update-frequency", c.NodeStatusUpdateFrequency, "how often the node's status is computed")
	f.Var(&pairs{values: &o.systemReserved, form: "name=quantity"}, "system-reserved", "held back for the system, of cpu, memory, ephemeral-storage, pid")
	f.Var(&pairs{values: &o.kubeReserved, form: "name=quantity"}, "kube-reserved", "held back for Kubernetes' own, of the same")
	f.Var(&pairs{values: &o.evictionHard, form: "signal<threshold"}, "eviction-hard", "thresholds, of which memory.available and nodefs.available are held back from pods")
	f.StringVar(&c.RootDir, "root-dir", c.RootDir, "`folder` for what belongs to the pods")
	f.StringVar(&o.healthz.address, "healthz-bind-address", o.healthz.address, "`address` where /healthz is served")
	f.IntVar(&o.healthz.port, "healthz-port", o.healthz.port, "port of it; 0 for none")
}

func podFlags(f *pflag.FlagSet, o *options) {
	c := &o.agent
	f.IntVar(&c.MaxPods, "max-pods", c.MaxPods, "how many pods the node takes")
	f.DurationVar(&c.SyncFrequency, "sync-frequency", c.SyncFrequency, "how often a pod is looked at though nothing has happened")
	f.StringSliceVar(&c.ClusterDNS, "cluster-dns", c.ClusterDNS, "`addresses` of the cluster's name servers")
	f.StringVar(&c.ClusterDomain, "cluster-domain", c.ClusterDomain, "`domain` that pods search for names")
	f.StringVar(&c.ResolvConf, "resolv-conf", c.ResolvConf, "`file` for pods that use the machine's name servers; empty for none")
}

func staticFlags(f *pflag.FlagSet, o *options) {
	c := &o.agent
	f.StringVar(&c.StaticPodPath, "pod-manifest-path", c.StaticPodPath, "`folder` or file of static pods")
	f.DurationVar(&c.FileCheckFrequency, "file-check-frequency", c.FileCheckFrequency, "how often they are read")
	f.StringVar(&c.StaticPodURL, "manifest-url", c.StaticPodURL, "`URL` of static pods")
	f.Var(&headers{values: &c.StaticPodURLHeader}, "manifest-url-header", "headers to ask there with; may be repeated")
	f.DurationVar(&c.HTTPCheckFrequency, "http-check-frequency", c.HTTPCheckFrequency, "how often it is asked")
}

func imageFlags(f *pflag.FlagSet, o *options) {
	f.StringVar(&o.runtime.PodInfraContainerImage, "pod-infra-container-image", o.runtime.PodInfraContainerImage, "`image` of the containers that hold the pods' namespaces (default one that the agent brings along)")
	f.IntVar(&o.agent.MaxParallelImagePulls, "max-parallel-image-pulls", o.agent.MaxParallelImagePulls, "how many images are pulled at once")
	f.BoolVar(&o.serializeImagePulls, "serialize-image-pulls", o.serializeImagePulls, "pull one image after the other")
	f.DurationVar(&o.runtime.ImagePullProgressDeadline, "image-pull-progress-deadline", o.runtime.ImagePullProgressDeadline, "end a pull of which nothing more comes for so long")
}

func runtimeFlags(f *pflag.FlagSet, o *options) {
	r, c := &o.runtime, &o.agent
	f.StringVar(&r.Endpoint, "docker-endpoint", r.Endpoint, "`URL` of Docker Engine")
	f.StringVar(&c.CgroupDriver, "cgroup-driver", c.CgroupDriver, "cgroupfs or systemd, as Docker Engine has it")
	f.StringVar(&c.CgroupRoot, "cgroup-root", c.CgroupRoot, "`cgroup` of all pods (default the top)")
	f.BoolVar(&c.CgroupsPerQOS, "cgroups-per-qos", c.CgroupsPerQOS, "a cgroup for each pod, below one for each quality of service")
	f.StringVar(&o.containerLogMaxSize, "container-log-max-size", o.containerLogMaxSize, "`size` at which a container's log is rotated")
	f.IntVar(&r.LogMaxFiles, "container-log-max-files", r.LogMaxFiles, "how many files there are of a log at most")
	f.DurationVar(&c.RuntimeRequestTimeout, "runtime-request-timeout", c.RuntimeRequestTimeout, "bound of every call of the runtime but pulls, logs, exec and attach")
}

func logFlags(f *pflag.FlagSet, o *options) {
	f.IntVarP(&o.log.verbosity, "v", "v", o.log.verbosity, "`level` of detail: 0 what happens, 4 and more for debugging")
	f.StringVar(&o.log.format, "logging-format", o.log.format, "text or json")
	f.BoolVar(&o.version, "version", o.version, "print the version and end")
}

// parseFlags reads the command line into o. An error names every flag with a bad
// value; pflag.ErrHelp is one.
func parseFlags(o *options, args []string) error {
	all := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	all.SetOutput(io.Discard)
	all.Usage = func() {}
	// Scripts of old write --node_labels.
	all.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
	})
	for _, g := range groups(o) {
		all.AddFlagSet(g.flags)
	}
	var faults []error
	err := all.ParseAll(args, func(flag *pflag.Flag, value string) error {
		if err := all.Set(flag.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("--%s: %q: %s", flag.Name, value, mustBe(flag, err)))
		}
		return nil
	})
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	faults = append(faults, err)
	for _, arg := range all.Args() {
		faults = append(faults, fmt.Errorf("%q: must be a flag: there are no arguments", arg))
	}
	return errors.Join(faults...)
}

// mustBe says what a flag's value must be.
func mustBe(flag *pflag.Flag, err error) string {
	switch flag.Value.Type() {
	case "bool":
		return "must be true or false"
	case "int":
		return "must be a whole number"
	case "float32":
		return "must be a number"
	case "duration":
		return "must be a duration such as 10s or 1m30s"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// help prints what the command is and its flags by subject.
func help(w io.Writer) {
	o := defaultOptions()
	fmt.Fprint(w, `agent is a Kubernetes node: it joins a cluster and runs its pods on Docker Engine.

Usage: agent --kubeconfig FILE [flags]

Exit codes: 0 ended by a signal, 1 failed, 2 bad input.
`)
	for _, g := range groups(&o) {
		fmt.Fprintf(w, "\n%s:\n%s", g.name, g.flags.FlagUsagesWrapped(110))
	}
}
