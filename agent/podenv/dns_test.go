package podenv

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	v1 "k8s.io/api/core/v1"
)

// resolvConf shows a configuration as a resolv.conf.
func resolvConf(c *v1.PodDNSConfig) string {
	var options []string
	for _, o := range c.Options {
		if o.Value != nil {
			o.Name += ":" + *o.Value
		}
		options = append(options, o.Name)
	}
	return fmt.Sprintf("nameserver %s; search %s; options %s", strings.Join(c.Nameservers, " "),
		strings.Join(c.Searches, " "), strings.Join(options, " "))
}

func TestDNS(t *testing.T) {
	node := ResolvConf{Nameservers: []string{"8.8.8.8"}, Searches: []string{"corp.example", "cluster.local"}, Options: []string{"rotate", "ndots:2"}}
	cluster := ClusterDNS{IPs: []string{"10.0.0.10"}, Domain: "cluster.local"}
	const (
		ofCluster = "nameserver 10.0.0.10; search ns.svc.cluster.local svc.cluster.local cluster.local corp.example; options ndots:5"
		ofNode    = "nameserver 8.8.8.8; search corp.example cluster.local; options rotate ndots:2"
		missing   = `MissingClusterDNS: pod: "p_ns(u)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`
	)
	for name, test := range map[string]struct {
		spec    string
		node    ResolvConf
		cluster ClusterDNS
		want    string
		events  []string
	}{
		"cluster first":                            {"dnsPolicy: ClusterFirst", node, cluster, ofCluster, nil},
		"no policy":                                {"{}", node, cluster, ofCluster, nil},
		"cluster first on the host's network":      {"{dnsPolicy: ClusterFirst, hostNetwork: true}", node, cluster, ofNode, nil},
		"cluster first with host net":              {"{dnsPolicy: ClusterFirstWithHostNet, hostNetwork: true}", node, cluster, ofCluster, nil},
		"cluster first with host net, without one": {"dnsPolicy: ClusterFirstWithHostNet", node, cluster, ofCluster, nil},
		"default": {"dnsPolicy: Default", node, cluster, ofNode, nil},
		"none":    {"{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1]}}", node, cluster, "nameserver 1.1.1.1; search ; options ", nil},
		"a cluster without a domain": {"dnsPolicy: ClusterFirst", node, ClusterDNS{IPs: []string{"10.0.0.10", "fd00::a"}},
			"nameserver 10.0.0.10 fd00::a; search corp.example cluster.local; options ndots:5", nil},
		"a cluster without a name service":      {"dnsPolicy: ClusterFirst", node, ClusterDNS{Domain: "cluster.local"}, ofNode, []string{missing}},
		"without one, and nobody minds":         {"dnsPolicy: Default", node, ClusterDNS{}, ofNode, nil},
		"a node without a resolv.conf":          {"dnsPolicy: Default", NoResolvConf([]string{"1.1.1.1", "fe80::1"}), cluster, "nameserver 127.0.0.1 ::1; search .; options ", nil},
		"that does not know its address":        {"dnsPolicy: Default", NoResolvConf(nil), cluster, "nameserver 127.0.0.1; search .; options ", nil},
		"in a cluster, that does not matter":    {"dnsPolicy: ClusterFirst", NoResolvConf(nil), cluster, "nameserver 10.0.0.10; search ns.svc.cluster.local svc.cluster.local cluster.local; options ndots:5", nil},
		"nor for a pod that has all of its own": {"{dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1]}}", NoResolvConf(nil), cluster, "nameserver 1.1.1.1; search ; options ", nil},
		"an empty resolv.conf":                  {"dnsPolicy: Default", ResolvConf{}, cluster, "nameserver ; search ; options ", nil},
		"merged with the pod's": {`
dnsPolicy: ClusterFirst
dnsConfig: {nameservers: [1.1.1.1, 10.0.0.10], searches: [my.example, corp.example], options: [{name: ndots, value: "3"}, {name: edns0}, {name: timeout, value: ""}]}`,
			node, cluster, "nameserver 10.0.0.10 1.1.1.1; search ns.svc.cluster.local svc.cluster.local cluster.local corp.example my.example; options ndots:3 edns0 timeout", nil},
		"an option without its value": {`
dnsPolicy: Default
dnsConfig: {options: [{name: ndots}]}`, node, cluster, "nameserver 8.8.8.8; search corp.example cluster.local; options rotate ndots", nil},
		"too many name servers": {`
dnsPolicy: ClusterFirst
dnsConfig: {nameservers: [1.1.1.1, 2.2.2.2, 3.3.3.3]}`, ResolvConf{}, cluster,
			"nameserver 10.0.0.10 1.1.1.1 2.2.2.2; search ns.svc.cluster.local svc.cluster.local cluster.local; options ndots:5",
			[]string{"DNSConfigForming: Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.0.0.10 1.1.1.1 2.2.2.2"}},
		"a domain that is too long": {`
dnsPolicy: None
dnsConfig: {searches: [a.example, ` + strings.Repeat("x", 254) + `, b.example, ` + strings.Repeat("y", 253) + `]}`, ResolvConf{}, cluster,
			"nameserver ; search a.example b.example " + strings.Repeat("y", 253) + "; options ",
			[]string{"DNSConfigForming: Search Line limits were exceeded, some search paths have been omitted, the applied search line is: a.example b.example " + strings.Repeat("y", 253)}},
	} {
		p := podOf(t, "metadata: {name: p, namespace: ns, uid: u}")
		p.Spec = podOf(t, "spec:\n "+strings.ReplaceAll(test.spec, "\n", "\n ")).Spec
		before := p.DeepCopy()
		got, events := DNS(p, test.node, test.cluster)
		if s := resolvConf(got); s != test.want {
			t.Errorf("%s:\n%s, want\n%s", name, s, test.want)
		}
		var told []string
		for _, e := range events {
			if e.Pod != p || e.Type != v1.EventTypeWarning || e.Container != "" {
				t.Errorf("%s: event %+v", name, e)
			}
			told = append(told, e.Reason+": "+e.Message)
		}
		if !slices.Equal(told, test.events) {
			t.Errorf("%s: told %q, want %q", name, told, test.events)
		}
		if !equal(p, before) {
			t.Errorf("%s: the pod was changed", name)
		}
	}
	if resolvConf(&v1.PodDNSConfig{Nameservers: node.Nameservers, Searches: node.Searches}) != "nameserver 8.8.8.8; search corp.example cluster.local; options " ||
		!slices.Equal(node.Options, []string{"rotate", "ndots:2"}) {
		t.Errorf("the node's own was changed: %v", node)
	}
}

func TestSearchLimits(t *testing.T) {
	p := podOf(t, "spec: {dnsPolicy: None, dnsConfig: {}}")
	domains := func(n, size int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("%02d", i)+strings.Repeat("x", size-2))
		}
		return all
	}
	for name, test := range map[string]struct {
		given []string
		want  int
	}{
		"32 domains":      {domains(32, 10), 32},
		"33 domains":      {domains(33, 10), 32},
		"2047 characters": {domains(32, 63), 32}, // 32*63 + 31
		"2048 characters": {append(domains(31, 63), strings.Repeat("y", 64)), 32},
		"2049 characters": {append(domains(31, 63), strings.Repeat("y", 65)), 31},
		"long ones":       {domains(32, 253), 8}, // 8*253 + 7
	} {
		p.Spec.DNSConfig.Searches = test.given
		got, events := DNS(p, ResolvConf{}, ClusterDNS{})
		if !slices.Equal(got.Searches, test.given[:test.want]) {
			t.Errorf("%s: %d are kept, want the first %d", name, len(got.Searches), test.want)
		}
		if (len(events) > 0) != (test.want < len(test.given)) {
			t.Errorf("%s: told %v", name, events)
		}
	}
}

func TestParseResolvConf(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"empty": {"", "nameserver ; search ; options "},
		"usual": {"# by hand\nnameserver 10.0.0.1\n\n  nameserver\tfd00::1 # first\nsearch a.example b.example\noptions ndots:2 rotate\n",
			"nameserver 10.0.0.1 fd00::1; search a.example b.example; options ndots:2 rotate"},
		"comment that is indented":     {"  # nameserver 1.1.1.1", "nameserver ; search ; options "},
		"semicolons are no comments":   {";nameserver 1.1.1.1\n; nameserver 2.2.2.2", "nameserver ; search ; options "},
		"other lines":                  {"domain a.example\nsortlist 1.1.1.1\nnameservers 1.1.1.1\nlookup file", "nameserver ; search ; options "},
		"the last search line counts":  {"search a.example\nsearch b.example c.example", "nameserver ; search b.example c.example; options "},
		"also if it is empty":          {"search a.example\nsearch", "nameserver ; search ; options "},
		"dots at the end":              {"search a.example. . b.example..", "nameserver ; search a.example b.example.; options "},
		"the last option counts":       {"options ndots:2 rotate ndots:3\noptions timeout:1\noptions ndots:4 rotate", "nameserver ; search ; options ndots:4 rotate timeout:1"},
		"Windows line ends":            {"nameserver 1.1.1.1\r\nsearch a.example\r\n", "nameserver 1.1.1.1; search a.example; options "},
		"without an end of line":       {"nameserver 1.1.1.1", "nameserver 1.1.1.1; search ; options "},
		"further values":               {"nameserver 1.1.1.1 2.2.2.2", "nameserver 1.1.1.1; search ; options "},
		"name servers are not checked": {"nameserver x\nnameserver 1.1.1.1\nnameserver 1.1.1.1", "nameserver x 1.1.1.1 1.1.1.1; search ; options "},
	} {
		c, err := ParseResolvConf(strings.NewReader(test.content))
		got := resolvConf(&v1.PodDNSConfig{Nameservers: c.Nameservers, Searches: c.Searches, Options: dnsOptions(c.Options)})
		if err != nil || got != test.want {
			t.Errorf("%s: %s (%v), want %s", name, got, err, test.want)
		}
	}
	if c, err := ParseResolvConf(strings.NewReader("nameserver\nsearch a\nnameserver")); err == nil ||
		!strings.Contains(err.Error(), "nameserver list is empty") || c.Searches != nil {
		t.Errorf("%v (%v) of a name server without address", c, err)
	}
	away := errors.New("away")
	if _, err := ParseResolvConf(iotest.ErrReader(away)); !errors.Is(err, away) {
		t.Errorf("%v, want the reader's error", err)
	}
	long := strings.Repeat("#", maxResolvConf)
	if _, err := ParseResolvConf(strings.NewReader(long)); err != nil {
		t.Error(err)
	}
	if _, err := ParseResolvConf(strings.NewReader(long + "#")); err == nil {
		t.Error("a resolv.conf without end was read")
	}
}

// FuzzParseResolvConf: what was read, written and read again is the same, and
// any pod can be given it.
func FuzzParseResolvConf(f *testing.F) {
	for _, s := range []string{"", "nameserver 1.1.1.1\nsearch a. b\noptions ndots:2 x: :y", "search", "nameserver", "options a a:b a:c:d", "\x00nameserver \xff\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseResolvConf(strings.NewReader(s))
		if err != nil {
			return
		}
		var b strings.Builder
		for _, ip := range c.Nameservers {
			fmt.Fprintln(&b, "nameserver", ip)
		}
		for _, line := range []struct {
			keyword string
			values  []string
		}{{"search", c.Searches}, {"options", c.Options}} {
			if len(line.values) > 0 {
				fmt.Fprintln(&b, line.keyword, strings.Join(line.values, " "))
			}
		}
		again, err := ParseResolvConf(strings.NewReader(b.String()))
		// A domain that ends in several dots loses one each time.
		dots := slices.ContainsFunc(c.Searches, func(d string) bool { return strings.HasSuffix(d, ".") })
		if err != nil || !slices.Equal(again.Nameservers, c.Nameservers) || !slices.Equal(again.Options, c.Options) ||
			!dots && !slices.Equal(again.Searches, c.Searches) {
			t.Errorf("%+v became %+v (%v)", c, again, err)
		}
		for _, policy := range []v1.DNSPolicy{v1.DNSDefault, v1.DNSClusterFirst} {
			config, events := DNS(&v1.Pod{Spec: v1.PodSpec{DNSPolicy: policy}}, c, ClusterDNS{IPs: []string{"10.0.0.10"}, Domain: "cluster.local"})
			line := strings.Join(config.Searches, " ")
			if len(config.Nameservers) > 3 || len(config.Searches) > 32 || len(line) > 2048 || len(events) > 2 {
				t.Errorf("%s with %d events", resolvConf(config), len(events))
			}
		}
	})
}
