package podenv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	resourcehelper "k8s.io/component-helpers/resource"
)

// field is the value of a field of the pod, or of what the node knows of it.
func (r *resolver) field(ref *v1.ObjectFieldSelector) (string, error) {
	if ref.APIVersion != "v1" && ref.APIVersion != "" {
		return "", fmt.Errorf("unsupported pod version: %s", ref.APIVersion)
	}
	switch ref.FieldPath {
	case "spec.nodeName", "spec.host":
		if r.Pod.Spec.NodeName == "" {
			return r.NodeName, nil
		}
		return r.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return r.Pod.Spec.ServiceAccountName, nil
	case "status.hostIP":
		if len(r.HostIPs) == 0 {
			return "", errNoHostIP
		}
		return r.HostIPs[0], nil
	case "status.hostIPs":
		if len(r.HostIPs) == 0 {
			return "", errNoHostIP
		}
		return strings.Join(r.HostIPs, ","), nil
	case "status.podIP":
		if ips := r.podIPs(); len(ips) > 0 {
			return ips[0], nil
		}
		return "", nil
	case "status.podIPs":
		return strings.Join(r.podIPs(), ","), nil
	}
	return Field(r.Pod, ref.FieldPath)
}

var errNoHostIP = errors.New("host IP unknown")

// podIPs are one of the pod's addresses of each family, of the node's own family
// first.
func (r *resolver) podIPs() []string {
	all := r.PodIPs
	if len(all) == 0 && r.Pod.Spec.HostNetwork {
		all = r.HostIPs
	}
	first := len(r.HostIPs) > 0 && isIPv6(r.HostIPs[0])
	var ips []string
	for _, v6 := range []bool{first, !first} {
		if i := slices.IndexFunc(all, func(ip string) bool { return ip != "" && isIPv6(ip) == v6 }); i >= 0 {
			ips = append(ips, all[i])
		}
	}
	return ips
}

// Field returns a field of a pod's metadata, as a fieldRef of an environment
// variable or of a downward API volume names it. All labels or annotations are
// lines of key="value", sorted.
func Field(p *v1.Pod, path string) (string, error) {
	if name, key, ok := subscript(path); ok {
		switch name {
		case "metadata.annotations":
			return p.Annotations[key], validKey(path, strings.ToLower(key))
		case "metadata.labels":
			return p.Labels[key], validKey(path, key)
		}
		return "", fmt.Errorf("field label does not support subscript: %s", path)
	}
	switch path {
	case "metadata.annotations":
		return lines(p.Annotations), nil
	case "metadata.labels":
		return lines(p.Labels), nil
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "spec.restartPolicy", "spec.schedulerName", "status.phase":
		// They can be selected by, but not be given to a container.
		return "", fmt.Errorf("unsupported fieldPath: %v", path)
	}
	return "", fmt.Errorf("field label not supported: %s", path)
}

// subscript takes name['key'] apart.
func subscript(path string) (name, key string, ok bool) {
	rest, ok := strings.CutSuffix(path, "']")
	if !ok {
		return "", "", false
	}
	name, key, ok = strings.Cut(rest, "['")
	return name, key, ok && name != ""
}

func validKey(path, key string) error {
	if faults := validation.IsQualifiedName(key); len(faults) > 0 {
		return fmt.Errorf("invalid key subscript in %s: %s", path, strings.Join(faults, ";"))
	}
	return nil
}

func lines(m map[string]string) string {
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(key + "=" + strconv.Quote(m[key]))
	}
	return b.String()
}

func (r *resolver) resourceField(ref *v1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName == "" {
		return ResourceField(ref, r.Pod, r.Container, r.Allocatable)
	}
	return ResourceFieldOf(ref, r.Pod, r.Allocatable)
}

// ResourceFieldOf is ResourceField of the container that ref names, as in a
// downward API volume. An init container's missing limit is 0, not the node's.
func ResourceFieldOf(ref *v1.ResourceFieldSelector, p *v1.Pod, allocatable v1.ResourceList) (string, error) {
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == ref.ContainerName {
			return ResourceField(ref, p, c, allocatable)
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.Name == ref.ContainerName {
			return ResourceField(ref, p, c, nil)
		}
	}
	return "", fmt.Errorf("container %s not found", ref.ContainerName)
}

// ResourceField returns a container's request or limit in units of the
// reference's divisor, rounded up. A limit of CPU, memory or ephemeral storage
// that is not set is the pod's, and else what the node can allocate.
func ResourceField(ref *v1.ResourceFieldSelector, p *v1.Pod, c *v1.Container, allocatable v1.ResourceList) (string, error) {
	kind, name, _ := strings.Cut(ref.Resource, ".")
	known := name == "cpu" || name == "memory" || name == "ephemeral-storage"
	if !known && !strings.HasPrefix(name, v1.ResourceHugePagesPrefix) {
		kind = ""
	}
	var q resource.Quantity
	switch kind {
	case "requests":
		q = c.Resources.Requests[v1.ResourceName(name)]
	case "limits":
		q = c.Resources.Limits[v1.ResourceName(name)]
		if q.IsZero() && known {
			q = defaultLimit(v1.ResourceName(name), p, allocatable)
		}
	default:
		return "", fmt.Errorf("unsupported container resource : %v", ref.Resource)
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if name == "cpu" {
		return ceil(q.MilliValue(), divisor.MilliValue()), nil
	}
	return ceil(q.Value(), divisor.Value()), nil
}

// defaultLimit is the limit of a container that sets none. A pod's own limit
// counts only where the node has the resource.
func defaultLimit(name v1.ResourceName, p *v1.Pod, allocatable v1.ResourceList) resource.Quantity {
	limit, known := allocatable[name]
	if !known || p.Spec.Resources == nil || !resourcehelper.IsSupportedPodLevelResource(name) {
		return limit
	}
	if own := p.Spec.Resources.Limits[name]; !own.IsZero() {
		return own
	}
	return limit
}

// ceil is a/b for positive b, rounded up.
func ceil(a, b int64) string {
	n := a / b
	if a%b > 0 {
		n++
	}
	return strconv.FormatInt(n, 10)
}
