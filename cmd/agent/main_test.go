package main

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/klog/v2"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &out, &out); code != 0 {
		t.Errorf("exit %d", code)
	}
	if *update {
		writeFile(t, "testdata/help.txt", out.String())
	}
	want, err := os.ReadFile("testdata/help.txt")
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("help is not as in testdata/help.txt; -update writes it anew:\n%s", &out)
	}
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// kubeconfig writes a kubeconfig of a server, and returns flags of a node there
// that has no ports and files but those of the test.
func nodeArgs(t *testing.T, server string) []string {
	t.Helper()
	dir := t.TempDir()
	kubeconfig := writeFile(t, filepath.Join(dir, "kubeconfig"), `{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: "`+server+`"}}]}`)
	return []string{"--kubeconfig", kubeconfig, "--hostname-override", "n", "--root-dir", filepath.Join(dir, "root"), "--healthz-port", "0"}
}

func TestRun(t *testing.T) {
	// All goes well, and the agent is told to end before it has begun.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	before := slog.Default()
	defer func() {
		slog.SetDefault(before)
		klog.ClearLogger()
	}()
	good := nodeArgs(t, "https://192.0.2.1:6443")
	good = append(good, "--docker-endpoint", "unix://"+filepath.Join(t.TempDir(), "docker.sock"))
	begun := "Starting the agent"
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--version"}, 0, []string{"agent unknown\n"}},
		{good, 0, []string{begun}},
		{append(good[2:len(good):len(good)], "--api-servers", "http://192.0.2.1,http://192.0.2.2"), 0,
			[]string{"--api-servers: only the first is used: http://192.0.2.1", "nobody to the API server", begun}},
		{[]string{"--hostname-override", "n"}, 2, []string{"--kubeconfig: must name a file"}},
		{append(good[2:len(good):len(good)], "--pod-manifest-path", t.TempDir()), 0, []string{"Without an API server", begun}},
		{append(good[:len(good):len(good)], "--eviction-hard", ""), 0, []string{"pods are not evicted", begun}},
		{append(good[:len(good):len(good)], "--node_ip", "0.0.0.0"), 0, []string{begun}},
		{append(good[:len(good):len(good)], "--kube-reserved", "memory=1Ei"), 2, []string{"memory: 1099511627876Mi are reserved"}},
		// Each flag with a bad value is named, and what stands beside them.
		{[]string{"--max-pods", "x", "--sync-frequency=1", "--register-node=perhaps", "--event-qps=many", "--node-labels", "=a",
			"--eviction-hard", "memory.available", "--register-with-taints", "a=b", "--manifest-url-header", "a", "pod.yaml"}, 2,
			[]string{`--max-pods: "x": must be a whole number`, `--sync-frequency: "1": must be a duration`,
				`--register-node: "perhaps": must be true or false`, `--event-qps: "many": must be a number`,
				`--node-labels: "=a": must be key=value, with`, `--eviction-hard: "memory.available": must be signal<threshold`,
				`--register-with-taints: "a=b": must be key=value:effect`, `--manifest-url-header: "a": must be name:value`,
				`"pod.yaml": must be a flag`, "agent --help"}},
		{[]string{"--max-pods", "x", "--no-such"}, 2, []string{"--max-pods", "unknown flag: --no-such"}},
	} {
		var out bytes.Buffer
		code := run(ctx, test.args, &out, &out)
		if code != test.code {
			t.Errorf("agent %q: exit %d, want %d", test.args, code, test.code)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("agent %q does not say %q:\n%s", test.args, want, &out)
			}
		}
	}
}

// Whatever is wrong is told at once: the field, its value, what is allowed.
func TestAllFaultsAtOnce(t *testing.T) {
	args := []string{
		"--kubeconfig", "/no/such/file", "--hostname-override", "Not_A_Name", "--node-ip", "127.0.0.1,a",
		"--node-labels", "kubernetes.io/role=x", "--register-with-taints", "a=b:Never", "--cloud-provider", "aws",
		"--max-pods", "-1", "--root-dir", "here", "--cluster-dns", "dns", "--cluster-domain", "-", "--sync-frequency", "0s",
		"--node-status-update-frequency", "-1s", "--runtime-request-timeout", "0s", "--max-parallel-image-pulls", "0",
		"--docker-endpoint", "/var/run/docker.sock", "--cgroup-driver", "v2", "--cgroup-root", "pods",
		"--container-log-max-size", "big", "--container-log-max-files", "1", "--image-pull-progress-deadline", "0s",
		"--manifest-url", "pods", "--file-check-frequency", "0s", "--http-check-frequency", "0s",
		"--kube-api-qps", "-1", "--kube-api-burst", "-1", "--event-qps", "NaN", "--event-burst", "-1", "--v", "-1",
		"--healthz-bind-address", "localhost", "--healthz-port", "65536", "--logging-format", "xml",
		"--system-reserved", "disk=1,cpu=x", "--kube-reserved", "memory=-1Gi", "--eviction-hard", "disk<1,memory.available<x,nodefs.available<101%",
	}
	wants := []string{
		"--kubeconfig: reading /no/such/file", `NodeName: "not_a_name": must be a host name`, `--node-ip: "a": must be an IP address`,
		"NodeIPs: 127.0.0.1: must not be a loopback address",
		"Labels: kubernetes.io/role: must be outside the domains", `RegisterWithTaints[0].effect: "Never": must be NoSchedule`,
		`CloudProvider: "aws": must be "external" or empty`, "MaxPods: -1: must be 0 or more", `RootDir: "here": must be an absolute path`,
		`ClusterDNS[0]: "dns": must be an IP address`, `ClusterDomain: "-": must be a domain name`, "SyncFrequency: 0s: must be more than 0",
		"NodeStatusUpdateFrequency: -1s: must be", "RuntimeRequestTimeout: 0s: must be", "MaxParallelImagePulls: 0: must be 1 or more",
		`--docker-endpoint: "/var/run/docker.sock": must be such as unix:///`,
		`CgroupDriver: "v2": must be cgroupfs or systemd`, `CgroupRoot: "pods": must be an absolute path`,
		`containerLogMaxSize: "big": must be a quantity`, "containerLogMaxFiles: 1: must be 2 or more", "--image-pull-progress-deadline: 0s: must be",
		`StaticPodURL: "pods": must be an http or https URL`,
		"FileCheckFrequency: 0s: must be", "HTTPCheckFrequency: 0s: must be", "kubeAPIQPS: -1: must be 0 or more", "kubeAPIBurst: -1: must be",
		"eventRecordQPS: NaN: must be", "eventBurst: -1: must be", "logging.verbosity: -1: must be", `healthzBindAddress: "localhost": must be an IP`,
		"healthzPort: 65536: must be from 0 to 65535", `logging.format: "xml": must be text or json`,
		`systemReserved: "disk": must be one of cpu, memory`, `systemReserved.cpu: "x": must be a quantity`, `kubeReserved.memory: "-1Gi": must be`,
		`evictionHard: "disk": must be one of memory.available`, `evictionHard.memory.available: "x" must be`, `evictionHard.nodefs.available: "101%" must be`,
	}
	var out bytes.Buffer
	if code := run(t.Context(), args, &out, &out); code != exitBadInput {
		t.Errorf("exit %d", code)
	}
	if lines := strings.Count(strings.TrimSpace(out.String()), "\n") + 1; lines != len(wants) {
		t.Errorf("%d faults, want %d", lines, len(wants))
	}
	for _, want := range wants {
		if !strings.Contains(out.String(), want) {
			t.Errorf("does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// The flags end where they belong.
func TestFlagsAreUsed(t *testing.T) {
	o, _, err := parse(append(nodeArgs(t, "https://192.0.2.1"), "--node-ip", "192.0.2.7,2001:db8::7",
		"--node-labels", "pool=a,empty", "--node-labels", "zone=b", "--register-with-taints", "a=b:NoSchedule,c:NoExecute",
		"--register-node=false", "--cloud-provider", "external", "--provider-id", "cloud://7", "--max-pods", "7",
		"--system-reserved", "cpu=500m,memory=1Gi", "--kube-reserved", "cpu=1,pid=1000", "--eviction-hard", "memory.available<5%,nodefs.available<100%",
		"--pod-manifest-path", "/pods", "--manifest-url", "http://192.0.2.9/pods", "--manifest-url-header", "a:hello,b:again,c:world",
		"--manifest-url-header", "b:beautiful", "--cluster-dns", "10.0.0.10,10.0.0.11", "--cluster-domain", "cluster.local",
		"--container-log-max-size", "1Mi", "--container-log-max-files", "3", "--serialize-image-pulls", "--resolv-conf", "", "-v4"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	a, m := s.agent, s.machine
	if a.NodeName != "n" || m.NodeName != "n" || len(a.NodeIPs) != 2 || len(m.NodeIPs) != 2 || a.RegisterNode || a.ProviderID != "cloud://7" ||
		!m.ExternalCloudProvider || a.MaxPods != 7 || a.MaxParallelImagePulls != 1 || a.ResolvConf != "" || len(a.ClusterDNS) != 2 ||
		a.ClusterDomain != "cluster.local" || m.RootDir != a.RootDir || s.runtime.RootDir != a.RootDir || s.api == nil || o.log.verbosity != 4 {
		t.Errorf("agent %+v\nmachine %+v", a, m)
	}
	if len(a.Labels) != 3 || a.Labels["pool"] != "a" || a.Labels["zone"] != "b" {
		t.Errorf("labels %v", a.Labels)
	}
	if len(a.RegisterWithTaints) != 2 || a.RegisterWithTaints[0].ToString() != "a=b:NoSchedule" || a.RegisterWithTaints[1].ToString() != "c:NoExecute" {
		t.Errorf("taints %v", a.RegisterWithTaints)
	}
	r := m.Reserved
	if r.System.Cpu().MilliValue() != 500 || r.Kube.Cpu().Value() != 1 || len(r.Kube) != 2 || r.EvictionMemory.Fraction != 0.05 || r.EvictionNodefs.Fraction != 0 {
		t.Errorf("reserved %+v", r)
	}
	if a.StaticPodPath != "/pods" || a.StaticPodURL != "http://192.0.2.9/pods" || strings.Join(a.StaticPodURLHeader["B"], " ") != "again beautiful" || a.StaticPodURLHeader.Get("a") != "hello" {
		t.Errorf("agent %+v", a)
	}
	if s.runtime.LogMaxSize != 1<<20 || s.runtime.LogMaxFiles != 3 || !a.CgroupsPerQOS {
		t.Errorf("runtime %+v", s.runtime)
	}
}

// What is held back by default is what the kubelet holds back.
func TestDefaultReservation(t *testing.T) {
	o, _, err := parse(nodeArgs(t, "https://192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	if r := s.machine.Reserved; r.EvictionMemory.Quantity.Value() != 100<<20 || r.EvictionNodefs.Fraction != 0.1 || len(r.System)+len(r.Kube) != 0 {
		t.Errorf("reserved %+v", r)
	}
}
