package podenv

import (
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Lengths that Linux gives a host name.
const (
	maxHostname = 63
	maxNodename = 64
)

// Hostname returns a pod's host name, cut to 63 characters, and the domain that
// its subdomain puts it in; the domain is empty without one. A pod's fully
// qualified name is hostname.domain where there is a domain. An error says which
// field of the spec is not a DNS name.
func Hostname(p *v1.Pod, clusterDomain string) (hostname, domain string, err error) {
	spec := &p.Spec
	if spec.HostnameOverride != nil {
		if faults := validation.IsDNS1123Subdomain(*spec.HostnameOverride); len(faults) > 0 {
			return "", "", invalid("HostnameOverride", *spec.HostnameOverride, "subdomain", faults)
		}
		hostname, err := cutHostname(p.Name, *spec.HostnameOverride)
		return hostname, "", err
	}
	hostname = p.Name
	if spec.Hostname != "" {
		if faults := validation.IsDNS1123Label(spec.Hostname); len(faults) > 0 {
			return "", "", invalid("Hostname", spec.Hostname, "label", faults)
		}
		hostname = spec.Hostname
	}
	if hostname, err = cutHostname(p.Name, hostname); err != nil {
		return "", "", err
	}
	if spec.Subdomain != "" {
		if faults := validation.IsDNS1123Label(spec.Subdomain); len(faults) > 0 {
			return "", "", invalid("Subdomain", spec.Subdomain, "label", faults)
		}
		domain = fmt.Sprintf("%s.%s.svc.%s", spec.Subdomain, p.Namespace, clusterDomain)
	}
	return hostname, domain, nil
}

func invalid(field, value, what string, faults []string) error {
	return fmt.Errorf("pod %s %q is not a valid DNS %s: %s", field, value, what, strings.Join(faults, ";"))
}

// cutHostname cuts a name to what a host name may be; it does not end in a dash
// or a dot.
func cutHostname(podName, name string) (string, error) {
	if len(name) <= maxHostname {
		return name, nil
	}
	cut := strings.TrimRight(name[:maxHostname], "-.")
	if cut == "" {
		return "", fmt.Errorf("hostname for pod %q was invalid: %q", podName, name)
	}
	return cut, nil
}

// SandboxHostname returns what the pod's sandbox is to have as host name: the
// pod's, with its domain if setHostnameAsFQDN asks for it, or nothing for a pod
// on the host's network. A name with domain of more than 64 characters is an
// error: the sandbox cannot be made.
func SandboxHostname(p *v1.Pod, clusterDomain string) (string, error) {
	if p.Spec.HostNetwork {
		return "", nil
	}
	hostname, domain, err := Hostname(p, clusterDomain)
	if err != nil || domain == "" || !isTrue(p.Spec.SetHostnameAsFQDN) {
		return hostname, err
	}
	fqdn := hostname + "." + domain
	if len(fqdn) > maxNodename {
		return "", fmt.Errorf("failed to construct FQDN from pod hostname and cluster domain, "+
			"FQDN %s is too long (%d characters is the max, %d characters requested)", fqdn, maxNodename, len(fqdn))
	}
	return fqdn, nil
}
