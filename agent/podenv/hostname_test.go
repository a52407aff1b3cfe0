package podenv

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestHostname(t *testing.T) {
	long := strings.Repeat("a", 70)
	for name, test := range map[string]struct {
		pod                            string
		hostname, domain, sandbox, err string
	}{
		"the pod's name":   {"{metadata: {name: web-0, namespace: ns}}", "web-0", "", "web-0", ""},
		"one of its own":   {"{metadata: {name: web-0, namespace: ns}, spec: {hostname: db}}", "db", "", "db", ""},
		"with a subdomain": {"{metadata: {name: web-0, namespace: ns}, spec: {subdomain: web}}", "web-0", "web.ns.svc.cluster.local", "web-0", ""},
		"as FQDN": {"{metadata: {name: web-0, namespace: ns}, spec: {hostname: db, subdomain: web, setHostnameAsFQDN: true}}",
			"db", "web.ns.svc.cluster.local", "db.web.ns.svc.cluster.local", ""},
		"as FQDN without a domain": {"{metadata: {name: web-0}, spec: {setHostnameAsFQDN: true}}", "web-0", "", "web-0", ""},
		"as no FQDN":               {"{metadata: {name: web-0, namespace: ns}, spec: {subdomain: web, setHostnameAsFQDN: false}}", "web-0", "web.ns.svc.cluster.local", "web-0", ""},
		"on the host's network":    {"{metadata: {name: web-0, namespace: ns}, spec: {hostNetwork: true, hostname: db, subdomain: web}}", "db", "web.ns.svc.cluster.local", "", ""},
		"long":                     {"{metadata: {name: " + long + "}}", long[:63], "", long[:63], ""},
		"cut after a dash":         {"{metadata: {name: " + strings.Repeat("a", 60) + "-.-.x}}", strings.Repeat("a", 60), "", strings.Repeat("a", 60), ""},
		"64 characters": {"{metadata: {name: " + strings.Repeat("a", 39) + ", namespace: ns}, spec: {subdomain: web, setHostnameAsFQDN: true}}",
			strings.Repeat("a", 39), "web.ns.svc.cluster.local", strings.Repeat("a", 39) + ".web.ns.svc.cluster.local", ""},
		"overridden": {"{metadata: {name: web-0, namespace: ns}, spec: {hostnameOverride: x.example.com, subdomain: web, setHostnameAsFQDN: true}}",
			"x.example.com", "", "x.example.com", ""},
		"overridden by a bad name": {"{metadata: {name: web-0}, spec: {hostnameOverride: X_}}", "", "", "", `pod HostnameOverride "X_" is not a valid DNS subdomain: `},
		"overridden and long":      {"{metadata: {name: web-0}, spec: {hostnameOverride: " + strings.Repeat("a.", 40) + "b}}", strings.TrimSuffix(strings.Repeat("a.", 32), "."), "", strings.TrimSuffix(strings.Repeat("a.", 32), "."), ""},
		"no label":                 {"{metadata: {name: web-0}, spec: {hostname: a.b}}", "", "", "", `pod Hostname "a.b" is not a valid DNS label: `},
		"no subdomain":             {"{metadata: {name: web-0}, spec: {subdomain: a.b}}", "", "", "", `pod Subdomain "a.b" is not a valid DNS label: `},
		"nothing left":             {"{metadata: {name: " + strings.Repeat("-", 70) + "}}", "", "", "", `hostname for pod "`},
	} {
		p := podOf(t, test.pod)
		hostname, domain, err := Hostname(p, "cluster.local")
		if hostname != test.hostname || domain != test.domain || !begins(err, test.err) {
			t.Errorf("%s: %q in %q (%v), want %q in %q (%s)", name, hostname, domain, err, test.hostname, test.domain, test.err)
		}
		sandbox, err := SandboxHostname(p, "cluster.local")
		if sandbox != test.sandbox || !begins(err, test.err) {
			t.Errorf("%s: the sandbox's is %q (%v), want %q (%s)", name, sandbox, err, test.sandbox, test.err)
		}
	}
	p := podOf(t, "{metadata: {name: "+strings.Repeat("a", 40)+", namespace: ns}, spec: {subdomain: web, setHostnameAsFQDN: true}}")
	if got, err := SandboxHostname(p, "cluster.local"); got != "" || !begins(err, "failed to construct FQDN from pod hostname and cluster domain, FQDN "+
		p.Name+".web.ns.svc.cluster.local is too long (64 characters is the max, 65 characters requested)") {
		t.Errorf("%q (%v), want that it is too long", got, err)
	}
}

func begins(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.HasPrefix(err.Error(), want)
}

func TestHosts(t *testing.T) {
	const local = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::0	ip6-localnet
fe00::0	ip6-mcastprefix
fe00::1	ip6-allnodes
fe00::2	ip6-allrouters
`
	const aliasLines = `
# Entries added by HostAliases.
1.2.3.4	a	b.example
::5	c
`
	aliases := []v1.HostAlias{{IP: "1.2.3.4", Hostnames: []string{"a", "b.example"}}, {IP: "::5", Hostnames: []string{"c"}}}
	for name, test := range map[string]struct{ got, want string }{
		"plain":         {string(Hosts([]string{"10.0.0.1"}, "p", "", nil)), "# Kubernetes-managed hosts file.\n" + local + "10.0.0.1\tp\n"},
		"in a domain":   {string(Hosts([]string{"10.0.0.1"}, "p", "d.ns.svc.x", nil)), "# Kubernetes-managed hosts file.\n" + local + "10.0.0.1\tp.d.ns.svc.x\tp\n"},
		"two addresses": {string(Hosts([]string{"10.0.0.1", "fd00::1"}, "p", "", aliases)), "# Kubernetes-managed hosts file.\n" + local + "10.0.0.1\tp\nfd00::1\tp\n" + aliasLines},
		"host network":  {string(HostNetworkHosts([]byte("127.0.0.1 me\n"), nil)), "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n"},
		"host network with aliases": {string(HostNetworkHosts([]byte("127.0.0.1 me\n"), aliases)),
			"# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n" + aliasLines},
	} {
		if test.got != test.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, test.got, test.want)
		}
	}
}
