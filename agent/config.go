package agent

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	// MaxParallelImagePulls bounds the image pulls under way.
	MaxParallelImagePulls int
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
		ContainerRuntime:          "docker",
		NodeStatusUpdateFrequency: 10 * time.Second,
		NodeStatusReportFrequency: 5 * time.Minute,
		NodeLeaseDuration:         40 * time.Second,
		MaxPods:                   110,
		MaxContainerRestartPeriod: 300 * time.Second,
		MaxParallelImagePulls:     5,
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
	for i, t := range c.RegisterWithTaints {
		switch t.Effect {
		case v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute:
		default:
			fault(fmt.Sprintf("RegisterWithTaints[%d].effect", i), fmt.Sprintf("%q", t.Effect),
				"NoSchedule, PreferNoSchedule or NoExecute")
		}
	}
	if u := c.StaticPodURL; u != "" {
		if parsed, err := url.Parse(u); err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Host == "" {
			fault("StaticPodURL", fmt.Sprintf("%q", u), "an http or https URL with a host")
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"FileCheckFrequency", c.FileCheckFrequency},
		{"HTTPCheckFrequency", c.HTTPCheckFrequency},
		{"NodeStatusUpdateFrequency", c.NodeStatusUpdateFrequency},
		{"NodeStatusReportFrequency", c.NodeStatusReportFrequency},
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
	if c.MaxParallelImagePulls < 1 {
		fault("MaxParallelImagePulls", c.MaxParallelImagePulls, "1 or more")
	}
	return errors.Join(faults...)
}
