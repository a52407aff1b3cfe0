package pod

import (
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestCgroup(t *testing.T) {
	for _, test := range []struct {
		root    string
		systemd bool
		class   v1.PodQOSClass
		want    string
	}{
		{"", false, v1.PodQOSGuaranteed, "/kubepods/podu-1"},
		{"/", false, v1.PodQOSBurstable, "/kubepods/burstable/podu-1"},
		{"/nodes", false, v1.PodQOSBestEffort, "/nodes/kubepods/besteffort/podu-1"},
		{"", true, v1.PodQOSGuaranteed, "kubepods-podu_1.slice"},
		{"", true, v1.PodQOSBestEffort, "kubepods-besteffort-podu_1.slice"},
		{"/top.slice", true, v1.PodQOSBurstable, "top-kubepods-burstable-podu_1.slice"},
	} {
		p := &v1.Pod{Status: v1.PodStatus{QOSClass: test.class}}
		p.UID = "u-1"
		if got := Cgroup(test.root, test.systemd, p); got != test.want {
			t.Errorf("Cgroup(%q, %v, %s) = %s, want %s", test.root, test.systemd, test.class, got, test.want)
		}
	}
}
