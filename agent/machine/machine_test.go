package machine

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// fake is a machine with the files of testdata/root, a disk of 100 GiB and
// addresses of its own.
func fake(config Config) *Machine {
	if config.Root == nil {
		config.Root = os.DirFS("testdata/root")
	}
	config.NodeName = "n"
	return &Machine{config: config,
		size: func(string) (uint64, error) { return 100 << 30, nil },
		net: network{
			addrs: func() ([]net.Addr, error) {
				var addrs []net.Addr
				for _, ip := range []string{"127.0.0.1", "192.0.2.7", "192.0.2.8", "2001:db8::7", "fe80::7"} {
					addrs = append(addrs, &net.IPNet{IP: net.ParseIP(ip)})
				}
				return addrs, nil
			},
			lookup: func(context.Context, string) ([]net.IP, error) { return nil, errors.New("no such host") },
			defaultIP: func(family net.IP) (net.IP, error) {
				if family != nil && family.To4() == nil {
					return net.ParseIP("2001:db8::7"), nil
				}
				return net.ParseIP("192.0.2.7"), nil
			},
		},
	}
}

func TestFacts(t *testing.T) {
	got, err := fake(Config{RootDir: "/var/lib/kubelet"}).Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expectList(t, "capacity", got.Capacity, map[v1.ResourceName]string{"cpu": "5", "memory": "16Gi",
		"ephemeral-storage": "100Gi", "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0"})
	// Huge pages are no memory for anything else.
	expectList(t, "allocatable", got.Allocatable, map[v1.ResourceName]string{"cpu": "5", "memory": "15Gi",
		"ephemeral-storage": "100Gi", "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0"})
	want := v1.NodeSystemInfo{MachineID: "3d1219c7c4c5404aaa1f6d2a48adfda4", SystemUUID: "4c4c4544-0051-3610-8052-b4c04f4d3132",
		BootID: "285bb7b3-3aee-4211-92f8-af65bba07367", KernelVersion: "6.12.30-amd64", OSImage: "Debian GNU/Linux 12 (bookworm)",
		OperatingSystem: runtime.GOOS, Architecture: runtime.GOARCH}
	swap := got.Info.Swap
	got.Info.Swap = nil
	if got.Info != want || swap == nil || *swap.Capacity != 1<<30 {
		t.Errorf("info %+v, swap %v; want %+v", got.Info, swap, want)
	}
}

func expectList(t *testing.T, what string, got v1.ResourceList, want map[v1.ResourceName]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s has %d resources, want %d: %v", what, len(got), len(want), got)
	}
	for name, w := range want {
		if q, ok := got[name]; !ok || q.Cmp(resource.MustParse(w)) != 0 {
			t.Errorf("%s: %s is %s, want %s", what, name, q.String(), w)
		}
	}
}

func TestAllocatable(t *testing.T) {
	list := func(pairs ...string) v1.ResourceList {
		l := v1.ResourceList{}
		for i := 0; i < len(pairs); i += 2 {
			l[v1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return l
	}
	m := fake(Config{Reserved: Reserved{
		System:         list("cpu", "500m", "memory", "1Gi", "ephemeral-storage", "10Gi", "pid", "1000"),
		Kube:           list("cpu", "1500m", "memory", "1Gi"),
		EvictionMemory: Threshold{Quantity: resource.MustParse("1Gi")}, EvictionNodefs: Threshold{Fraction: 0.5}}})
	if err := m.checkReserved(); err != nil {
		t.Error(err)
	}
	got, err := m.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expectList(t, "allocatable", got.Allocatable, map[v1.ResourceName]string{"cpu": "3", "memory": "12Gi",
		"ephemeral-storage": "40Gi", "hugepages-2Mi": "1Gi", "hugepages-1Gi": "0"})

	// Too much of everything is named at once, and never comes out negative.
	m.config.Reserved.System = list("cpu", "20", "memory", "20Gi", "ephemeral-storage", "60Gi")
	err = m.checkReserved()
	if err == nil || len(strings.Split(err.Error(), "\n")) != 3 ||
		!strings.Contains(err.Error(), "cpu: 21500m are reserved (systemReserved, kubeReserved and evictionHard together): must be at most the machine's 5") {
		t.Errorf("check found: %v", err)
	}
	for name, q := range m.config.Reserved.allocatable(got.Capacity) {
		if q.Sign() < 0 {
			t.Errorf("allocatable %s is %s", name, q.String())
		}
	}
}

func TestParseThreshold(t *testing.T) {
	memory := *resource.NewQuantity(1000, resource.BinarySI)
	for s, want := range map[string]int64{"100": 100, "10%": 100, "0%": 0, "100%": 1000, "12.5%": 125, "1k": 1000} {
		threshold, err := ParseThreshold(s)
		if q := threshold.of(memory); err != nil || q.Value() != want {
			t.Errorf("%s is %s, %v; want %d", s, q.String(), err, want)
		}
	}
	for _, s := range []string{"", "%", "-1%", "101%", "NaN%", "-1Gi", "much", "10 %"} {
		if _, err := ParseThreshold(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
}

func ips(list ...string) []net.IP {
	var out []net.IP
	for _, s := range list {
		out = append(out, net.ParseIP(s))
	}
	return out
}

func TestAddresses(t *testing.T) {
	for _, test := range []struct {
		name     string
		nodeIPs  []net.IP
		known    []net.IP
		external bool
		want     []string
		fault    string
	}{
		{name: "default route", want: []string{"192.0.2.7", "n"}},
		{name: "by name", known: ips("127.0.0.1", "198.51.100.1", "192.0.2.8"), want: []string{"192.0.2.8", "n"}},
		{name: "by name, IPv4 preferred", known: ips("2001:db8::7", "192.0.2.8"), want: []string{"192.0.2.8", "n"}},
		{name: "by name, only IPv6", known: ips("2001:db8::7"), want: []string{"2001:db8::7", "n"}},
		{name: "::", nodeIPs: ips("::"), known: ips("192.0.2.8", "2001:db8::7"), want: []string{"2001:db8::7", "n"}},
		{name: ":: by route", nodeIPs: ips("::"), want: []string{"2001:db8::7", "n"}},
		{name: "0.0.0.0", nodeIPs: ips("0.0.0.0"), want: []string{"192.0.2.7", "n"}},
		{name: "given", nodeIPs: ips("192.0.2.8"), known: ips("192.0.2.7"), want: []string{"192.0.2.8", "n"}},
		{name: "dual-stack", nodeIPs: ips("2001:db8::7", "192.0.2.8"), want: []string{"2001:db8::7", "192.0.2.8", "n"}},
		{name: "elsewhere", nodeIPs: ips("192.0.2.9"), fault: "node IP 192.0.2.9: must be on one of the machine's network interfaces"},
		{name: "second elsewhere", nodeIPs: ips("192.0.2.8", "2001:db8::9"), fault: "node IP 2001:db8::9: "},
		{name: "external", external: true, known: ips("192.0.2.8"), want: []string{"n"}},
		{name: "external, given", external: true, nodeIPs: ips("192.0.2.8"), want: []string{"192.0.2.8", "n"}},
		{name: "external, by route", external: true, nodeIPs: ips("0.0.0.0"), want: []string{"192.0.2.7", "n"}},
	} {
		m := fake(Config{NodeIPs: test.nodeIPs, ExternalCloudProvider: test.external})
		if test.known != nil {
			m.net.lookup = func(context.Context, string) ([]net.IP, error) { return test.known, nil }
		}
		facts, err := m.Facts(t.Context())
		if (err != nil) != (test.fault != "") || err != nil && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.fault)
		}
		var got []string
		for i, a := range facts.Addresses {
			got = append(got, a.Address)
			if isLast := i == len(facts.Addresses)-1; isLast != (a.Type == v1.NodeHostName) {
				t.Errorf("%s: address %d is of type %s", test.name, i, a.Type)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: addresses %q, want %q", test.name, got, test.want)
		}
	}
}

func TestUnusableNodeIPs(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "224.0.0.1", "fe80::7", "::1"} {
		c := Config{NodeIPs: ips(ip), RootDir: t.TempDir()}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "NodeIPs: "+ip+": must not be") {
			t.Errorf("%s: %v", ip, err)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s made a machine", ip)
		}
	}
	if err := (&Config{NodeIPs: ips("192.0.2.7", "::")}).Validate(); err == nil {
		t.Error("all zeros were taken for the second address")
	}
	// One that is not on the machine may come.
	for _, list := range [][]net.IP{ips("0.0.0.0"), ips("::"), ips("192.0.2.99"), nil} {
		if err := (&Config{NodeIPs: list}).Validate(); err != nil {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// A name that is a resolver's trouble must not keep the node from reporting.
func TestSlowResolver(t *testing.T) {
	m := fake(Config{})
	m.net.lookup = func(ctx context.Context, _ string) ([]net.IP, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > lookupTimeout {
			t.Error("the look-up has no deadline")
		}
		return nil, context.DeadlineExceeded
	}
	if _, err := m.Facts(t.Context()); err != nil {
		t.Error(err)
	}
}

// What is missing or unreadable: needed files are errors that name them, the
// others leave their facts empty.
func TestOddMachines(t *testing.T) {
	whole := func() fstest.MapFS {
		out := fstest.MapFS{}
		root := os.DirFS("testdata/root")
		err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(root, name)
			out[name] = &fstest.MapFile{Data: data}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	facts := func(change func(fstest.MapFS)) (Facts, error) {
		root := whole()
		change(root)
		return fake(Config{Root: root}).Facts(t.Context())
	}
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

	got, err := facts(func(root fstest.MapFS) {
		for name := range root {
			if strings.HasPrefix(name, "sys/") || strings.HasPrefix(name, "etc/") {
				delete(root, name)
			}
		}
		root["proc/cpuinfo"] = file("processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n")
		root["usr/lib/os-release"] = file("PRETTY_NAME='Small Linux'\n")
		root["proc/meminfo"] = file("MemTotal: 1024 kB\nSwapTotal: 0 kB\n")
	})
	if err != nil {
		t.Fatal(err)
	}
	expectList(t, "capacity", got.Capacity, map[v1.ResourceName]string{"cpu": "2", "memory": "1Mi", "ephemeral-storage": "100Gi"})
	if got.Info.OSImage != "Small Linux" || got.Info.SystemUUID != "" || got.Info.MachineID != "" || got.Info.Swap != nil {
		t.Errorf("info %+v", got.Info)
	}

	for name, test := range map[string]struct{ text, want string }{
		"sys/devices/system/cpu/online":                         {"3-1", `"3-1" is no list of CPUs`},
		"proc/meminfo":                                          {"MemFree: 1 kB", "no MemTotal"},
		"sys/kernel/mm/hugepages/odd/nr_hugepages":              {"1", "hugepages/odd is no folder of a page size"},
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": {"x", `"x" is no number of pages`},
		"sys/kernel/mm/hugepages/hugepages-64kB/free_hugepages": {"x", "hugepages-64kB/nr_hugepages"},
	} {
		_, err := facts(func(root fstest.MapFS) { root[name] = file(test.text) })
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s of %q: %v, want %q", name, test.text, err, test.want)
		}
	}
	_, err = facts(func(root fstest.MapFS) { delete(root, "proc/sys/kernel/osrelease") })
	if err == nil || !strings.Contains(err.Error(), "osrelease") {
		t.Errorf("without the kernel's version: %v", err)
	}
}

// The machine that the test runs on has all that a node must report.
func TestThisMachine(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(Config{NodeName: name, RootDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, resource := range []v1.ResourceName{v1.ResourceCPU, v1.ResourceMemory, v1.ResourceEphemeralStorage} {
		if q := got.Allocatable[resource]; q.Value() < 1 {
			t.Errorf("%s is %s", resource, q.String())
		}
	}
	if got.Info.KernelVersion == "" || got.Info.BootID == "" || len(got.Addresses) < 2 {
		t.Errorf("facts %+v", got)
	}
	if _, err := New(Config{NodeName: name, RootDir: "/no/such/folder"}); err == nil || !strings.Contains(err.Error(), "/no/such/folder") {
		t.Errorf("without its directory: %v", err)
	}
}
