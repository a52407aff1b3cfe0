package agent

import (
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	c.NodeName = "n"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// All faults are told at once, each with its field, its value and what is
// allowed.
func TestValidate(t *testing.T) {
	c := DefaultConfig()
	c.NodeName = "Not A Name"
	c.CloudProvider = "aws"
	c.RootDir = "here"
	c.CgroupRoot, c.CgroupDriver = "pods", "v2"
	c.StaticPodURL, c.FileCheckFrequency, c.HTTPCheckFrequency = "pods", 0, -1
	c.ClusterDNS = []string{"10.0.0.10", "dns"}
	c.ClusterDomain = "a b"
	c.SyncFrequency = 0
	c.NodeLeaseDuration = 1
	c.MaxPods = -1
	c.MaxContainerRestartPeriod = 0
	c.MaxParallelImagePulls = 0
	c.RegisterWithTaints = []v1.Taint{{Key: "a b", Value: "c d", Effect: "Sometimes"},
		{Key: "a", Value: "1", Effect: v1.TaintEffectNoExecute}, {Key: "a", Value: "2", Effect: v1.TaintEffectNoExecute}}
	wants := []string{
		`NodeName: "Not A Name": must be a host name`,
		`CloudProvider: "aws": must be "external" or empty`,
		`RootDir: "here": must be an absolute path`,
		`CgroupRoot: "pods": must be an absolute path`,
		`CgroupDriver: "v2": must be cgroupfs or systemd`,
		`StaticPodURL: "pods": must be an http or https URL`,
		`FileCheckFrequency: 0s: must be more than 0`,
		`HTTPCheckFrequency: -1ns: must be more than 0`,
		`ClusterDNS[1]: "dns": must be an IP address`,
		`ClusterDomain: "a b": must be a domain name`,
		`SyncFrequency: 0s: must be more than 0`,
		`NodeLeaseDuration: 1ns: must be at least 4s`,
		`MaxPods: -1: must be 0 or more`,
		`MaxContainerRestartPeriod: 0s: must be between 1s and 5m0s`,
		`MaxParallelImagePulls: 0: must be 1 or more`,
		`RegisterWithTaints[0].key: "a b": must be a label's key`,
		`RegisterWithTaints[0].value: "c d": must be a label's value`,
		`RegisterWithTaints[0].effect: "Sometimes": must be NoSchedule`,
		`RegisterWithTaints[2]: a=2:NoExecute: must be the only taint of its key and effect`,
	}
	err := c.Validate()
	if err == nil {
		t.Fatal("no faults were found")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != len(wants) {
		t.Errorf("%d faults, want %d:\n%v", len(lines), len(wants), err)
	}
	for _, want := range wants {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q was not told:\n%v", want, err)
		}
	}
}

// In Kubernetes' own domains a node gives itself only what the API server lets it.
func TestNodeLabels(t *testing.T) {
	for key, allowed := range map[string]bool{
		"pool": true, "example.com/pool": true, "notkubernetes.io/pool": true,
		"kubernetes.io/hostname": true, "topology.kubernetes.io/zone": true, "beta.kubernetes.io/arch": true,
		"node.kubernetes.io/pool": true, "kubelet.kubernetes.io/pool": true, "x.node.kubernetes.io/pool": true,
		"kubernetes.io/role": false, "node-role.kubernetes.io/worker": false, "k8s.io/pool": false,
		"x.k8s.io/pool": false, "node-restriction.kubernetes.io/pool": false, "a b": false,
	} {
		c := DefaultConfig()
		c.NodeName, c.Labels = "n", map[string]string{key: "a"}
		if err := c.Validate(); (err == nil) != allowed {
			t.Errorf("label %q: %v, want allowed %t", key, err, allowed)
		}
	}
}
