package oracle

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/network/dns"

	"nodelet/agent/podenv"
)

func TestDNS(t *testing.T) {
	d := newDice()
	path := filepath.Join(t.TempDir(), "resolv.conf")
	ctx := klog.NewContext(t.Context(), klog.Logger{})
	for range 2_000 {
		content := d.resolvConf()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		conf, err := podenv.ParseResolvConf(strings.NewReader(content))
		nodeIPs, used := []string{"1.2.3.4", "fd00::9"}[:d.IntN(3)], path
		if d.chance(5) {
			used, conf, err = "", podenv.NoResolvConf(nodeIPs), nil
		}
		cluster := podenv.ClusterDNS{IPs: []string{"10.0.0.10"}[:d.IntN(2)], Domain: d.pick("", "cluster.local")}
		p := d.pod()

		recorder := record.NewFakeRecorder(10)
		kubelet := dns.NewConfigurer(recorder, &v1.ObjectReference{Kind: "Node"}, parse(nodeIPs), parse(cluster.IPs), cluster.Domain, used)
		want, wantErr := kubelet.GetPodDNS(ctx, p)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: %v, the kubelet's %v", content, err, wantErr)
		}
		if err != nil {
			continue
		}
		got, events := podenv.DNS(p, conf, cluster)
		var options, told, wantTold []string
		for _, o := range got.Options {
			if o.Value != nil {
				o.Name += ":" + *o.Value
			}
			options = append(options, o.Name)
		}
		if !slices.Equal(got.Nameservers, want.Servers) || !slices.Equal(got.Searches, want.Searches) || !same(options, want.Options) {
			t.Fatalf("%q and %+v make %v, the kubelet's %v", content, p.Spec, got, want)
		}
		for _, e := range events {
			told = append(told, fmt.Sprintf("%s %s %s", e.Type, e.Reason, e.Message))
		}
		close(recorder.Events)
		for e := range recorder.Events {
			// The kubelet tells of a missing name service on the node as well.
			if !strings.Contains(e, "MissingClusterDNS kubelet") {
				wantTold = append(wantTold, e)
			}
		}
		if !slices.Equal(told, wantTold) {
			t.Fatalf("told %q, the kubelet %q", told, wantTold)
		}
	}
}

func parse(ips []string) []net.IP {
	var parsed []net.IP
	for _, ip := range ips {
		parsed = append(parsed, net.ParseIP(ip))
	}
	return parsed
}

func (d dice) domain() string {
	return d.pick("a.b", "cluster.local", ".", "x.", strings.Repeat("y", 250), strings.Repeat("z", 300), "svc.cluster.local",
		fmt.Sprint("d", d.IntN(50)))
}

func (d dice) resolvConf() string {
	var b strings.Builder
	for range d.IntN(8) {
		switch d.IntN(5) {
		case 0, 1:
			fmt.Fprintln(&b, d.pick("nameserver", " nameserver", "#nameserver"), d.pick("1.1.1.1", "2.2.2.2", "3.3.3.3", "fd00::1 x", ""))
		case 2:
			b.WriteString("search")
			for range d.IntN(40) {
				b.WriteString(" " + d.domain())
			}
			b.WriteString("\n")
		case 3:
			fmt.Fprintln(&b, "options", d.pick("ndots:2", "rotate", "ndots:3 timeout:1", "a:b:c"), d.pick("", "rotate", "ndots:9"))
		case 4:
			fmt.Fprintln(&b, d.pick("", "domain x", ";", "#"))
		}
	}
	return b.String()
}

func (d dice) pod() *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}}
	p.Spec.DNSPolicy = v1.DNSPolicy(d.pick("", "None", "Default", "ClusterFirst", "ClusterFirst", "ClusterFirstWithHostNet"))
	p.Spec.HostNetwork = d.chance(3)
	if d.chance(2) {
		return p
	}
	c := &v1.PodDNSConfig{}
	for range d.IntN(4) {
		c.Nameservers = append(c.Nameservers, d.pick("1.1.1.1", "4.4.4.4", "5.5.5.5"))
	}
	for range d.IntN(20) {
		c.Searches = append(c.Searches, d.domain())
	}
	for range d.IntN(3) {
		o := v1.PodDNSConfigOption{Name: d.pick("ndots", "rotate", "q")}
		if d.chance(2) {
			value := d.pick("1", "", "7")
			o.Value = &value
		}
		c.Options = append(c.Options, o)
	}
	p.Spec.DNSConfig = c
	return p
}
