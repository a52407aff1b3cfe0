package agent

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kubeletapis "k8s.io/kubelet/pkg/apis"

	"nodelet/agent/pulled"
)

// CloudProviderExternal is the only CloudProvider.
const CloudProviderExternal = "external"

// The cgroup drivers.
const (
	CgroupDriverCgroupfs = "cgroupfs"
	CgroupDriverSystemd  = "systemd"
)

// Config is how an agent behaves. Its defaults are the kubelet's; field names
// are those of KubeletConfiguration where it has them.
type Config struct {
	// NodeName is the name of the Node object, usually the host's name.
	NodeName string
	// Labels and RegisterWithTaints are given to the Node when it is created.
	Labels             map[string]string
	RegisterWithTaints []v1.Taint
	// RegisterNode creates the Node object; false keeps only the status of one
	// that an administrator made.
	RegisterNode bool
	// ProviderID is the machine's identity with its cloud; may be empty.
	ProviderID string
	// CloudProvider is "external" where a cloud controller manager sees to the
	// node's addresses and makes it fit for pods; else empty.
	CloudProvider string
	// NodeIPs are the node's addresses that an administrator gave, the primary
	// one first; may be empty.
	NodeIPs []net.IP
	// Version is the version that the node reports as its kubelet's.
	Version string

	// StaticPodPath is the directory of the static pods' manifests, or a single
	// one; StaticPodURL is where another one is had, with StaticPodURLHeader sent
	// along. Empty for none.
	StaticPodPath      string
	StaticPodURL       string
	StaticPodURLHeader http.Header
	// FileCheckFrequency and HTTPCheckFrequency are how often they are read.
	FileCheckFrequency time.Duration
	HTTPCheckFrequency time.Duration
	// RootDir is where the agent keeps what belongs to its pods. It is absolute.
	RootDir string

	// ClusterDNS are the name servers of pods of DNS policy ClusterFirst;
	// ClusterDomain is the domain that they search first. Both may be empty.
	ClusterDNS    []string
	ClusterDomain string
	// ResolvConf is the machine's resolv.conf, which the others get; empty for
	// none.
	ResolvConf string

	// PodLogsDir is where links to the containers' logs go; empty for none.
	PodLogsDir string
	// CgroupsPerQOS gives each pod a cgroup of its own below CgroupRoot, by
	// quality of service, as CgroupDriver names them: cgroupfs or systemd.
	CgroupsPerQOS bool
	CgroupRoot    string
	CgroupDriver  string

	// ContainerRuntime is the scheme of container IDs: docker://….
	ContainerRuntime string

	// NodeStatusUpdateFrequency is how often the node's status is computed;
	// NodeStatusReportFrequency how often it is written when nothing changed.
	NodeStatusUpdateFrequency time.Duration
	NodeStatusReportFrequency time.Duration
	// NodeLeaseDuration is how long a lease holds; it is renewed four times as
	// often.
	NodeLeaseDuration time.Duration

	// MaxPods is how many pods the node takes.
	MaxPods int
	// MaxContainerRestartPeriod is the longest crash-loop back-off.
	MaxContainerRestartPeriod time.Duration
	// ImagePulls says which images on the node a pod may use without having pulled
	// them.
	ImagePulls pulled.Policy
	// MaxParallelImagePulls bounds the image pulls under way.
	MaxParallelImagePulls int
	// SyncFrequency is how often a pod is looked at though nothing has happened.
	SyncFrequency time.Duration
	// RelistPeriod is the time between two full lists of the runtime. Its
	// notifications bring looks forward.
	RelistPeriod time.Duration
	// RuntimeRequestTimeout bounds every call of the runtime but pulls and stops.
	RuntimeRequestTimeout time.Duration
}

// DefaultConfig returns the kubelet's defaults. NodeName is left to be set.
func DefaultConfig() Config {
	return Config{
		RegisterNode:              true,
		Version:                   "v1.37.2",
		FileCheckFrequency:        20 * time.Second,
		HTTPCheckFrequency:        20 * time.Second,
		RootDir:                   "/var/lib/kubelet",
		ResolvConf:                "/etc/resolv.conf",
		PodLogsDir:                "/var/log/pods",
		CgroupsPerQOS:             true,
		CgroupDriver:              CgroupDriverCgroupfs,
		ContainerRuntime:          "docker",
		NodeStatusUpdateFrequency: 10 * time.Second,
		NodeStatusReportFrequency: 5 * time.Minute,
		NodeLeaseDuration:         40 * time.Second,
		MaxPods:                   110,
		MaxContainerRestartPeriod: 300 * time.Second,
		MaxParallelImagePulls:     5,
		SyncFrequency:             time.Minute,
		RelistPeriod:              time.Minute,
		RuntimeRequestTimeout:     2 * time.Minute,
	}
}

// Validate returns an error that names every fault, or nil.
func (c *Config) Validate() error {
	var faults []error
	fault := func(name string, value any, allowed string) {
		faults = append(faults, fmt.Errorf("%s: %v: must be %s", name, value, allowed))
	}
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); len(msgs) > 0 {
		fault("NodeName", fmt.Sprintf("%q", c.NodeName), "a host name: "+msgs[0])
	}
	for _, err := range metav1validation.ValidateLabels(c.Labels, field.NewPath("Labels")) {
		faults = append(faults, err)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Labels)) {
		if isKubernetesLabel(key) && !kubeletapis.IsKubeletLabel(key) {
			fault("Labels", key, allowedLabels)
		}
	}
	if u := c.StaticPodURL; u != "" {
		if parsed, err := url.Parse(u); err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
			fault("StaticPodURL", fmt.Sprintf("%q", u), "an http or https URL with a host")
		}
	}
	if d := c.CgroupDriver; d != CgroupDriverCgroupfs && d != CgroupDriverSystemd {
		fault("CgroupDriver", fmt.Sprintf("%q", d), "cgroupfs or systemd")
	}
	if c.CloudProvider != "" && c.CloudProvider != CloudProviderExternal {
		fault("CloudProvider", fmt.Sprintf("%q", c.CloudProvider), `"external" or empty`)
	}
	c.validateTaints(fault)
	c.validateDNS(fault)
	if !filepath.IsAbs(c.RootDir) {
		fault("RootDir", fmt.Sprintf("%q", c.RootDir), "an absolute path")
	}
	if c.PodLogsDir != "" && !filepath.IsAbs(c.PodLogsDir) {
		fault("PodLogsDir", fmt.Sprintf("%q", c.PodLogsDir), "an absolute path, or empty")
	}
	if c.CgroupRoot != "" && !filepath.IsAbs(c.CgroupRoot) {
		fault("CgroupRoot", fmt.Sprintf("%q", c.CgroupRoot), "an absolute path such as /pods, or empty")
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"FileCheckFrequency", c.FileCheckFrequency},
		{"HTTPCheckFrequency", c.HTTPCheckFrequency},
		{"NodeStatusUpdateFrequency", c.NodeStatusUpdateFrequency},
		{"NodeStatusReportFrequency", c.NodeStatusReportFrequency},
		{"SyncFrequency", c.SyncFrequency},
		{"RelistPeriod", c.RelistPeriod},
		{"RuntimeRequestTimeout", c.RuntimeRequestTimeout},
	} {
		if d.value <= 0 {
			fault(d.name, d.value, "more than 0")
		}
	}
	if c.NodeLeaseDuration < 4*time.Second {
		fault("NodeLeaseDuration", c.NodeLeaseDuration, "at least 4s")
	}
	if c.MaxPods < 0 {
		fault("MaxPods", c.MaxPods, "0 or more")
	}
	if p := c.MaxContainerRestartPeriod; p < time.Second || p > 300*time.Second {
		fault("MaxContainerRestartPeriod", p, "between 1s and 5m0s")
	}
	faults = append(faults, c.ImagePulls.Validate()...)
	if c.MaxParallelImagePulls < 1 {
		fault("MaxParallelImagePulls", c.MaxParallelImagePulls, "1 or more")
	}
	return errors.Join(faults...)
}

// validateTaints checks each taint's parts.
func (c *Config) validateTaints(fault func(name string, value any, allowed string)) {
	for i, t := range c.RegisterWithTaints {
		at := fmt.Sprintf("RegisterWithTaints[%d]", i)
		if msgs := validation.IsQualifiedName(t.Key); len(msgs) > 0 {
			fault(at+".key", fmt.Sprintf("%q", t.Key), "a label's key: "+msgs[0])
		}
		if msgs := validation.IsValidLabelValue(t.Value); len(msgs) > 0 {
			fault(at+".value", fmt.Sprintf("%q", t.Value), "a label's value: "+msgs[0])
		}
		switch t.Effect {
		case v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute:
		default:
			fault(at+".effect", fmt.Sprintf("%q", t.Effect), "NoSchedule, PreferNoSchedule or NoExecute")
		}
		same := func(other v1.Taint) bool { return other.MatchTaint(&t) }
		if slices.IndexFunc(c.RegisterWithTaints, same) < i {
			fault(at, t.ToString(), "the only taint of its key and effect")
		}
	}
}

// validateDNS checks the name servers and the domain.
func (c *Config) validateDNS(fault func(name string, value any, allowed string)) {
	for i, server := range c.ClusterDNS {
		if net.ParseIP(server) == nil {
			fault(fmt.Sprintf("ClusterDNS[%d]", i), fmt.Sprintf("%q", server), "an IP address")
		}
	}
	if c.ClusterDomain == "" {
		return
	}
	if msgs := validation.IsDNS1123Subdomain(c.ClusterDomain); len(msgs) > 0 {
		fault("ClusterDomain", fmt.Sprintf("%q", c.ClusterDomain), "a domain name: "+msgs[0])
	}
}

// allowedLabels says which labels in Kubernetes' own domains a node may give
// itself; the API server refuses others.
var allowedLabels = fmt.Sprintf("outside the domains kubernetes.io and k8s.io, or below %s, or one of %s",
	strings.Join(kubeletapis.KubeletLabelNamespaces(), " or "), strings.Join(kubeletapis.KubeletLabels(), ", "))

// isKubernetesLabel reports whether a label is in a domain of Kubernetes' own.
func isKubernetesLabel(key string) bool {
	domain, _, found := strings.Cut(key, "/")
	return found && (strings.HasSuffix("."+domain, ".kubernetes.io") || strings.HasSuffix("."+domain, ".k8s.io"))
}
