package podenv

import (
	"fmt"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"nodelet/agent/pod"
)

// ClusterDNS is the cluster's own name service, as the kubelet's clusterDNS and
// clusterDomain.
type ClusterDNS struct {
	// IPs are its addresses; none if the cluster has no name service.
	IPs []string
	// Domain is the cluster's domain, such as cluster.local; may be empty.
	Domain string
}

// Limits of a pod's resolver configuration.
const (
	maxNameservers    = 3
	maxSearches       = 32
	maxSearchListSize = 2048 // characters, with the spaces between
)

// DNS returns a pod's resolver configuration by its dnsPolicy, with its
// dnsConfig merged, cut to what resolvers can take; an unknown policy is
// ClusterFirst. events are warnings on the pod: of what was cut off, and of a
// cluster without a name service.
func DNS(p *v1.Pod, node ResolvConf, cluster ClusterDNS) (config *v1.PodDNSConfig, events []pod.Event) {
	d := &dns{pod: p}
	d.base(node, cluster)
	if own := p.Spec.DNSConfig; own != nil {
		d.servers = append(d.servers, own.Nameservers...)
		d.searches = append(d.searches, own.Searches...)
		d.servers, d.searches = unique(d.servers), unique(d.searches)
		for _, o := range own.Options {
			option := o.Name
			if o.Value != nil && *o.Value != "" {
				option += ":" + *o.Value
			}
			d.options = setOption(d.options, option)
		}
	}
	d.limitServers()
	d.limitSearches()
	return &v1.PodDNSConfig{Nameservers: d.servers, Searches: d.searches, Options: dnsOptions(d.options)}, d.events
}

// dns is a resolver configuration in the making.
type dns struct {
	pod                        *v1.Pod
	servers, searches, options []string
	events                     []pod.Event
}

func (d *dns) warn(reason, format string, args ...any) {
	d.events = append(d.events, pod.Event{Pod: d.pod, Type: v1.EventTypeWarning, Reason: reason,
		Message: fmt.Sprintf(format, args...)})
}

// base sets what the pod's policy says.
func (d *dns) base(node ResolvConf, cluster ClusterDNS) {
	spec := &d.pod.Spec
	switch {
	case spec.DNSPolicy == v1.DNSNone:
		return
	case spec.DNSPolicy == v1.DNSDefault, spec.DNSPolicy == v1.DNSClusterFirst && spec.HostNetwork:
		// The node's, below.
	case len(cluster.IPs) > 0:
		d.servers = slices.Clone(cluster.IPs)
		d.searches = slices.Clone(node.Searches)
		if zone := cluster.Domain; zone != "" {
			d.searches = unique(append([]string{d.pod.Namespace + ".svc." + zone, "svc." + zone, zone}, d.searches...))
		}
		d.options = []string{"ndots:5"}
		return
	default:
		d.warn("MissingClusterDNS", "pod: %q. kubelet does not have ClusterDNS IP configured and cannot create Pod "+
			"using %q policy. Falling back to %q policy.",
			fmt.Sprintf("%s_%s(%s)", d.pod.Name, d.pod.Namespace, d.pod.UID), v1.DNSClusterFirst, v1.DNSDefault)
	}
	d.servers, d.searches, d.options = slices.Clone(node.Nameservers), slices.Clone(node.Searches), slices.Clone(node.Options)
	if node.none {
		d.searches = []string{"."}
	}
}

func (d *dns) limitServers() {
	if len(d.servers) <= maxNameservers {
		return
	}
	d.servers = d.servers[:maxNameservers]
	d.warn("DNSConfigForming", "Nameserver limits were exceeded, some nameservers have been omitted, "+
		"the applied nameserver line is: %s", strings.Join(d.servers, " "))
}

// limitSearches leaves out domains too long for some resolvers, then the last
// ones until the others fit.
func (d *dns) limitSearches() {
	given := len(d.searches)
	d.searches = d.searches[:min(given, maxSearches)]
	d.searches = slices.DeleteFunc(d.searches, func(domain string) bool {
		return len(domain) > validation.DNS1123SubdomainMaxLength
	})
	for len(strings.Join(d.searches, " ")) > maxSearchListSize {
		d.searches = d.searches[:len(d.searches)-1]
	}
	if len(d.searches) < given {
		d.warn("DNSConfigForming", "Search Line limits were exceeded, some search paths have been omitted, "+
			"the applied search line is: %s", strings.Join(d.searches, " "))
	}
}

// unique returns values without those that were there before, in order.
func unique(values []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(values, func(v string) bool {
		before := seen[v]
		seen[v] = true
		return before
	})
}

func dnsOptions(options []string) []v1.PodDNSConfigOption {
	var list []v1.PodDNSConfigOption
	for _, o := range options {
		name, value, found := strings.Cut(o, ":")
		option := v1.PodDNSConfigOption{Name: name}
		if found {
			option.Value = &value
		}
		list = append(list, option)
	}
	return list
}
