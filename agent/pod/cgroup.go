package pod

import (
	"path"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/qos"
)

// Cgroup returns the cgroup of a pod below root, as the kubelet names it: by
// quality of service, then by UID. With systemd as the driver it is a slice's
// name, which tells the path.
func Cgroup(root string, systemd bool, p *v1.Pod) string {
	parts := []string{"kubepods"}
	class := p.Status.QOSClass
	if class == "" {
		class = qos.GetPodQOS(p)
	}
	if class != v1.PodQOSGuaranteed {
		parts = append(parts, strings.ToLower(string(class)))
	}
	parts = append(parts, "pod"+string(p.UID))
	if !systemd {
		return path.Join(append([]string{"/", root}, parts...)...)
	}
	for _, above := range strings.FieldsFunc(root, func(r rune) bool { return r == '/' }) {
		parts = append([]string{strings.TrimSuffix(above, ".slice")}, parts...)
	}
	for i := range parts {
		// A dash in a slice's name stands for a slash.
		parts[i] = strings.ReplaceAll(parts[i], "-", "_")
	}
	return strings.Join(parts, "-") + ".slice"
}
