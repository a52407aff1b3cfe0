package volume

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// volumeOf is the pod's volume of that name, nil if it has none.
func volumeOf(p *v1.Pod, name string) *v1.Volume {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return nil
}

// volume says what a volume of a spec is, all but its files.
func (m *Manager) volume(p *v1.Pod, spec *v1.Volume) (*Volume, error) {
	v := &Volume{Pod: pod.UID(p.UID), Name: spec.Name}
	if sc := p.Spec.SecurityContext; sc != nil {
		v.FSGroup = sc.FSGroup
	}
	switch s := &spec.VolumeSource; {
	case s.ConfigMap != nil:
		v.Kind = ConfigMap
	case s.Secret != nil:
		v.Kind = Secret
	case s.DownwardAPI != nil:
		v.Kind = DownwardAPI
	case s.Projected != nil:
		v.Kind = Projected
	case s.HostPath != nil:
		v.Kind, v.Path = HostPath, s.HostPath.Path
		if hasBackstep(v.Path) {
			return nil, fmt.Errorf("invalid HostPath `%s`: must not contain '..'", v.Path)
		}
		if s.HostPath.Type != nil {
			v.PathType = *s.HostPath.Type
		}
	case s.EmptyDir != nil:
		v.Kind, v.Medium = EmptyDir, s.EmptyDir.Medium
	case *s == v1.VolumeSource{}:
		v.Kind = EmptyDir
	default:
		return nil, fmt.Errorf("unsupported volume type %q", sourceType(s))
	}
	if v.Kind != HostPath {
		v.Size = m.memoryLimit(p, spec)
	}
	return v, nil
}

// sourceType is the name that a volume's source has in a manifest.
func sourceType(s *v1.VolumeSource) string {
	value := reflect.ValueOf(s).Elem()
	for i := range value.NumField() {
		if !value.Field(i).IsNil() {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// memoryLimit is what a volume in memory may hold, in bytes: the least of what
// the node has for pods, what the pod may use, and the volume's own limit. 0 is
// no limit.
func (m *Manager) memoryLimit(p *v1.Pod, spec *v1.Volume) int64 {
	allocatable := m.Allocatable()
	limit := allocatable.Memory().Value()
	lower := func(n int64) {
		if n > 0 && (limit == 0 || n < limit) {
			limit = n
		}
	}
	lower(podMemoryLimit(p))
	if e := spec.EmptyDir; e != nil && e.SizeLimit != nil {
		lower(e.SizeLimit.Value())
	}
	return limit
}

// podMemoryLimit is what a pod's containers may use together, in bytes, or 0 if
// there is no limit.
func podMemoryLimit(p *v1.Pod) int64 {
	if r := p.Spec.Resources; r != nil && !r.Limits.Memory().IsZero() {
		return r.Limits.Memory().Value()
	}
	var running, starting int64
	for i := range p.Spec.Containers {
		n := p.Spec.Containers[i].Resources.Limits.Memory().Value()
		if n == 0 {
			return 0
		}
		running += n
	}
	var sidecars int64
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		n := c.Resources.Limits.Memory().Value()
		if n == 0 {
			return 0
		}
		if pod.IsSidecar(c) {
			sidecars += n
			n = 0
		}
		starting = max(starting, sidecars+n)
	}
	return max(running+sidecars, starting)
}

// mountPoints are the directories below a volume on which containers mount
// other volumes. As they mount this one read-only, they could not make them.
func mountPoints(p *v1.Pod, name string) []string {
	var points []string
	eachContainer(p, func(c *v1.Container) bool {
		for _, outer := range c.VolumeMounts {
			if outer.Name != name || outer.SubPath != "" || outer.SubPathExpr != "" {
				continue
			}
			for _, inner := range c.VolumeMounts {
				below, ok := strings.CutPrefix(path.Clean("/"+inner.MountPath), strings.TrimSuffix(path.Clean("/"+outer.MountPath), "/")+"/")
				if ok && below != "" {
					points = append(points, below)
				}
			}
		}
		return true
	})
	slices.Sort(points)
	return slices.Compact(points)
}

// eachContainer calls f with all containers of the pod until it returns false.
func eachContainer(p *v1.Pod, f func(*v1.Container) bool) {
	for _, containers := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range containers {
			if !f(&containers[i]) {
				return
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := v1.Container(p.Spec.EphemeralContainers[i].EphemeralContainerCommon); !f(&c) {
			return
		}
	}
}

func hasBackstep(p string) bool {
	return slices.Contains(strings.Split(p, "/"), "..")
}
