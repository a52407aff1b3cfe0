package podenv

import (
	"bytes"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// Header lines by which a pod's hosts file is told from the image's own.
const (
	hostsHeader            = "# Kubernetes-managed hosts file.\n"
	hostsHeaderHostNetwork = "# Kubernetes-managed hosts file (host network).\n"
)

// localHosts are the entries that every pod has.
const localHosts = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"fe00::0\tip6-localnet\n" +
	"fe00::0\tip6-mcastprefix\n" +
	"fe00::1\tip6-allnodes\n" +
	"fe00::2\tip6-allrouters\n"

// Hosts returns the content of /etc/hosts of a pod with a network of its own.
// hostname and domain are Hostname's.
func Hosts(podIPs []string, hostname, domain string, aliases []v1.HostAlias) []byte {
	names := hostname
	if domain != "" {
		names = hostname + "." + domain + "\t" + hostname
	}
	var b bytes.Buffer
	b.WriteString(hostsHeader)
	b.WriteString(localHosts)
	for _, ip := range podIPs {
		fmt.Fprintf(&b, "%s\t%s\n", ip, names)
	}
	writeAliases(&b, aliases)
	return b.Bytes()
}

// HostNetworkHosts returns the content of /etc/hosts of a pod on the host's
// network: the node's own with the pod's aliases.
func HostNetworkHosts(node []byte, aliases []v1.HostAlias) []byte {
	var b bytes.Buffer
	b.WriteString(hostsHeaderHostNetwork)
	b.Write(node)
	writeAliases(&b, aliases)
	return b.Bytes()
}

func writeAliases(b *bytes.Buffer, aliases []v1.HostAlias) {
	if len(aliases) == 0 {
		return
	}
	b.WriteString("\n# Entries added by HostAliases.\n")
	for _, a := range aliases {
		fmt.Fprintf(b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
}
