package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/pulled"
)

const configHead = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"

// withConfig parses a command line with a configuration file.
func withConfig(t *testing.T, text string, args ...string) (options, []string, error) {
	t.Helper()
	file := writeFile(t, filepath.Join(t.TempDir(), "config.yaml"), text)
	return parse(append([]string{"--config", file}, args...))
}

func TestConfigFile(t *testing.T) {
	text, err := os.ReadFile("testdata/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o, warnings, err := withConfig(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
	want := defaultOptions()
	want.config = o.config
	want.healthz = healthzOptions{address: "::1", port: 0}
	a := &want.agent
	a.StaticPodPath, a.StaticPodURL = "/etc/kubernetes/manifests", "https://192.0.2.9/pods"
	a.StaticPodURLHeader = map[string][]string{"X-Node": {"a", "b"}}
	a.FileCheckFrequency, a.HTTPCheckFrequency = 21*time.Second, 22*time.Second
	a.ClusterDomain, a.ClusterDNS, a.ResolvConf = "cluster.local", []string{"10.96.0.10"}, ""
	a.SyncFrequency, a.NodeStatusUpdateFrequency, a.NodeStatusReportFrequency = 2*time.Minute, 11*time.Second, 4*time.Minute
	a.NodeLeaseDuration, a.RegisterNode, a.ProviderID, a.MaxPods = 30*time.Second, false, "cloud://7", 50
	a.RuntimeRequestTimeout, a.MaxParallelImagePulls, a.MaxContainerRestartPeriod = 3*time.Minute, 3, time.Minute
	a.RegisterWithTaints = o.agent.RegisterWithTaints
	if len(a.RegisterWithTaints) != 1 || a.RegisterWithTaints[0].ToString() != "a=b:NoSchedule" {
		t.Errorf("taints %v", a.RegisterWithTaints)
	}
	want.systemReserved = map[string]string{"cpu": "500m"}
	want.kubeReserved = map[string]string{"memory": "1Gi"}
	want.evictionHard = map[string]string{"memory.available": "200Mi"}
	want.mergeEvictionDefaults = true
	want.api.QPS, want.api.Burst, want.api.EventQPS, want.api.EventBurst = 51, 101, 0, 103
	a.CgroupRoot, a.CgroupsPerQOS, a.CgroupDriver = "/pods", false, "systemd"
	want.containerLogMaxSize, want.runtime.LogMaxFiles = "20Mi", 4
	a.PodLogsDir = "/var/pod-logs"
	a.ImagePulls = pulled.Policy{Name: "NeverVerifyAllowlistedImages", Allowlist: []string{"registry.example/base/*"}}
	want.log = logOptions{verbosity: 2, format: logJSON}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("options\n%+v, want\n%+v", o, want)
	}
	o.kubeconfig = nodeArgs(t, "https://192.0.2.1")[1]
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	// Only with mergeDefaultEvictionSettings do the other thresholds stay.
	if r := s.machine.Reserved; r.EvictionMemory.Quantity.Value() != 200<<20 || r.EvictionNodefs.Fraction != 0.1 {
		t.Errorf("reserved %+v", r)
	}
}

// Every field that is said to be heeded is one, and testdata/config.yaml has it.
func TestHeededFieldsAreTested(t *testing.T) {
	text, err := os.ReadFile("testdata/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := decodeConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	var set []string
	for _, f := range setFields(reflect.ValueOf(c).Elem(), "") {
		set = append(set, f.path)
	}
	slices.Sort(set)
	want := heeded.UnsortedList()
	slices.Sort(want)
	if !slices.Equal(set, want) {
		t.Errorf("testdata/config.yaml sets\n%q, want all that is heeded\n%q", set, want)
	}
	// And the values of other fields that are as the agent is are of fields.
	for path := range asIs {
		if !slices.ContainsFunc(reflect.VisibleFields(reflect.TypeFor[kubeletconfig.KubeletConfiguration]()), func(f reflect.StructField) bool {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return name == path
		}) {
			t.Errorf("asIs: there is no field %s", path)
		}
	}
}

func TestFlagsWin(t *testing.T) {
	text := configHead + "maxPods: 50\nclusterDNS: [10.96.0.10]\nregisterNode: false\nsystemReserved: {cpu: 1}\nregisterWithTaints: [{key: a, effect: NoSchedule}]\n"
	o, _, err := withConfig(t, strings.Replace(text, "cpu: 1", `cpu: "1"`, 1), "--max-pods", "60", "--cluster-dns", "10.0.0.1", "--register-node",
		"--system-reserved", "memory=1Gi", "--register-with-taints", "b:NoExecute")
	if err != nil {
		t.Fatal(err)
	}
	if o.agent.MaxPods != 60 || !slices.Equal(o.agent.ClusterDNS, []string{"10.0.0.1"}) || !o.agent.RegisterNode ||
		len(o.systemReserved) != 1 || o.systemReserved["memory"] != "1Gi" || len(o.agent.RegisterWithTaints) != 1 || o.agent.RegisterWithTaints[0].Key != "b" {
		t.Errorf("options %+v", o)
	}
}

// Who has the status computed less or more often wants reports as often; a flag
// means only itself. So it is with the kubelet.
func TestReportFrequency(t *testing.T) {
	o, _, err := withConfig(t, configHead+"nodeStatusUpdateFrequency: 30s\n")
	if err != nil || o.agent.NodeStatusUpdateFrequency != 30*time.Second || o.agent.NodeStatusReportFrequency != 30*time.Second {
		t.Errorf("by file: %v, %v, %v", o.agent.NodeStatusUpdateFrequency, o.agent.NodeStatusReportFrequency, err)
	}
	o, _, err = parse([]string{"--node-status-update-frequency", "30s"})
	if err != nil || o.agent.NodeStatusUpdateFrequency != 30*time.Second || o.agent.NodeStatusReportFrequency != 5*time.Minute {
		t.Errorf("by flag: %v, %v, %v", o.agent.NodeStatusUpdateFrequency, o.agent.NodeStatusReportFrequency, err)
	}
}

// A file as kubeadm writes it is taken; what it asks for in vain is named.
func TestUnsupportedFieldsAreNamed(t *testing.T) {
	text, err := os.ReadFile("testdata/kubeadm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o, warnings, err := withConfig(t, string(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`authentication.anonymous.enabled: false has no effect: the agent does not support this field`,
		`authentication.webhook.enabled: true has no effect: the agent does not support this field`,
		`authentication.x509.clientCAFile: "/etc/kubernetes/pki/ca.crt" has no effect: the agent does not support this field`,
		`authorization.mode: "Webhook" has no effect: the agent does not support this field`,
		`rotateCertificates: true has no effect: the agent does not support this field`,
		`topologyManagerPolicy: "restricted" has no effect: the agent does not support this field`,
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(warnings, "\n"), strings.Join(want, "\n"))
	}
	d := defaultOptions()
	if a := o.agent; a.SyncFrequency != d.agent.SyncFrequency || a.NodeStatusReportFrequency != d.agent.NodeStatusReportFrequency ||
		a.RuntimeRequestTimeout != d.agent.RuntimeRequestTimeout || a.FileCheckFrequency != d.agent.FileCheckFrequency {
		t.Errorf("zeros do not mean the defaults: %+v", o)
	}
	if o.agent.ClusterDomain != "cluster.local" || o.agent.CgroupDriver != "systemd" || o.agent.StaticPodPath != "/etc/kubernetes/manifests" {
		t.Errorf("options %+v", o)
	}
}

func TestBadConfigFiles(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"unknown", configHead + "maxPod: 5\nauthentication: {x508: {}}\n", []string{`unknown field "maxPod"`, `unknown field "authentication.x508"`}},
		{"case", configHead + "MaxPods: 5\n", []string{`unknown field "MaxPods"`}},
		{"repeated", configHead + "maxPods: 5\nmaxPods: 6\n", []string{`"maxPods" already set`}},
		{"repeated in JSON", `{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":"KubeletConfiguration","maxPods":5,"maxPods":6}`, []string{`maxPods`}},
		{"wrong type", configHead + "maxPods: many\n", []string{"maxPods"}},
		{"wrong duration", configHead + "syncFrequency: soon\n", []string{`"soon"`}},
		{"no YAML", configHead + "maxPods: [\n", []string{"yaml"}},
		{"another version", strings.Replace(configHead, "v1beta1", "v1", 1), []string{"kubelet.config.k8s.io/v1"}},
		{"another kind", strings.Replace(configHead, "KubeletC", "C", 1), []string{"Configuration"}},
		{"known kind", strings.Replace(configHead, "KubeletConfiguration", "CredentialProviderConfig", 1), []string{`kind: "CredentialProviderConfig": must be KubeletConfiguration`}},
		{"two documents", configHead + "---\n" + configHead, []string{"one document"}},
	} {
		_, _, err := withConfig(t, test.text)
		if err == nil {
			t.Errorf("%s: was taken", test.name)
			continue
		}
		for _, want := range append(test.want, "--config ") {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: does not say %q: %v", test.name, want, err)
			}
		}
	}
}

// --config names static pods too, as it once did.
func TestConfigOfStaticPods(t *testing.T) {
	dir := t.TempDir()
	pod := writeFile(t, filepath.Join(dir, "pod.yaml"), "apiVersion: v1\nkind: Pod\n")
	odd := writeFile(t, filepath.Join(dir, "odd.yaml"), "a: [")
	empty := writeFile(t, filepath.Join(dir, "empty.yaml"), "")
	for _, path := range []string{dir, pod, odd, empty, "/dev/null"} {
		o, warnings, err := parse([]string{"--config", path})
		if err != nil || o.agent.StaticPodPath != path || len(warnings) > 0 {
			t.Errorf("%s: static pods at %q, warnings %q, %v", path, o.agent.StaticPodPath, warnings, err)
		}
	}
	if _, _, err := parse([]string{"--config", pod, "--pod-manifest-path", dir}); err == nil || !strings.Contains(err.Error(), "--pod-manifest-path") {
		t.Errorf("two places: %v", err)
	}
	if _, _, err := parse([]string{"--config", filepath.Join(dir, "none")}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no place: %v", err)
	}
	// A file of the kubelet's configuration beside a folder of static pods.
	o, _, err := withConfig(t, configHead, "--pod-manifest-path", dir)
	if err != nil || o.agent.StaticPodPath != dir {
		t.Errorf("static pods at %q, %v", o.agent.StaticPodPath, err)
	}
}

// Paths in the file are from where it is.
func TestPathsInConfigFile(t *testing.T) {
	o, _, err := withConfig(t, configHead+"staticPodPath: manifests\nresolvConf: resolv.conf\n")
	if dir := filepath.Dir(o.config); err != nil || o.agent.StaticPodPath != filepath.Join(dir, "manifests") || o.agent.ResolvConf != filepath.Join(dir, "resolv.conf") {
		t.Errorf("%q, %q, %v", o.agent.StaticPodPath, o.agent.ResolvConf, err)
	}
	o, _, err = withConfig(t, configHead, append(nodeArgs(t, "https://192.0.2.1"), "--pod-manifest-path", "manifests", "--resolv-conf", "")...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	if here, _ := os.Getwd(); s.agent.StaticPodPath != filepath.Join(here, "manifests") || s.agent.ResolvConf != "" {
		t.Errorf("%q, %q", s.agent.StaticPodPath, s.agent.ResolvConf)
	}
}

// Whatever a file holds, it is taken or refused, and what is taken can be
// settled.
func FuzzConfigFile(f *testing.F) {
	for _, name := range []string{"testdata/config.yaml", "testdata/kubeadm.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(configHead + "evictionHard: {memory.available: 1e9%}\nlogging: {verbosity: 4294967295}\n"))
	f.Add([]byte("--- \n---\n" + configHead))
	f.Fuzz(func(t *testing.T, text []byte) {
		isConfig(text)
		c, err := decodeConfig(text)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil {
			return
		}
		o := defaultOptions()
		applyConfig(&o, c)
		_, _ = o.settle()
	})
}
