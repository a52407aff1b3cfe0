package volume

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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

// isUsed reports whether a container of the pod has a volume.
func isUsed(p *v1.Pod, volume string) bool {
	mounts, devices := uses(p, volume)
	return mounts || devices
}

// uses reports whether containers of the pod mount a volume, and whether they
// have it as a device.
func uses(p *v1.Pod, volume string) (mounts, devices bool) {
	eachContainer(p, func(c *v1.Container) bool {
		mounts = mounts || slices.ContainsFunc(c.VolumeMounts, func(m v1.VolumeMount) bool { return m.Name == volume })
		devices = devices || slices.ContainsFunc(c.VolumeDevices, func(d v1.VolumeDevice) bool { return d.Name == volume })
		return !mounts || !devices
	})
	return mounts, devices
}

// volume says what a volume of a spec is, all but its files. Claims must have
// been looked up before.
func (m *Manager) volume(e *entry, p *v1.Pod, spec *v1.Volume) (*Volume, error) {
	v := &Volume{Pod: pod.UID(p.UID), Name: spec.Name}
	if sc := p.Spec.SecurityContext; sc != nil {
		v.FSGroup = sc.FSGroup
		v.KeepOwners = sc.FSGroupChangePolicy != nil && *sc.FSGroupChangePolicy == v1.FSGroupChangeOnRootMismatch
	}
	var err error
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
		err = v.setHostPath(s.HostPath)
	case s.NFS != nil:
		v.setNFS(s.NFS, s.NFS.ReadOnly, nil)
	case s.CSI != nil && m.CSI != nil:
		v.Kind, v.ReadOnly = CSIDriver, isTrue(s.CSI.ReadOnly)
	case s.Image != nil && m.Layers != nil:
		v.Kind, v.ReadOnly = Image, true
	case s.EmptyDir != nil:
		v.Kind, v.Medium = EmptyDir, s.EmptyDir.Medium
		if strings.HasPrefix(string(v.Medium), string(v1.StorageMediumHugePages)) {
			v.PageSize, err = pageSize(p, v.Medium)
		}
	case e.known.claim(spec.Name) != nil:
		err = v.setClaimed(e.known.claim(spec.Name), isReadOnlyClaim(s), m.CSI != nil, m.Node())
	case *s == v1.VolumeSource{}:
		v.Kind = EmptyDir
	default:
		v.Kind, v.Type = Other, sourceType(s)
	}
	if v.Kind == EmptyDir || v.Kind.hasFiles() {
		v.Size = m.memoryLimit(p, spec)
	}
	return v, err
}

func (v *Volume) setHostPath(s *v1.HostPathVolumeSource) error {
	v.Kind, v.Path = HostPath, s.Path
	if s.Type != nil {
		v.PathType = *s.Type
	}
	if hasBackstep(v.Path) {
		return fmt.Errorf("invalid HostPath `%s`: must not contain '..'", v.Path)
	}
	return nil
}

// sourceType is the name that a volume's source, of which s is a pointer to, has
// in a manifest.
func sourceType(s any) string {
	value := reflect.ValueOf(s).Elem()
	for i := range value.NumField() {
		if !value.Field(i).IsNil() {
			name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// pageSize is the size of the huge pages of an emptyDir, in bytes: the medium
// names it, or else the one that the pod's containers ask for.
func pageSize(p *v1.Pod, medium v1.StorageMedium) (int64, error) {
	named := strings.TrimPrefix(string(medium), string(v1.StorageMediumHugePagesPrefix))
	var sizes []int64
	add := func(resources v1.ResourceList) {
		for name := range resources {
			suffix, ok := strings.CutPrefix(string(name), v1.ResourceHugePagesPrefix)
			size, err := resource.ParseQuantity(suffix)
			if !ok || err != nil {
				continue
			}
			if medium == v1.StorageMediumHugePages || suffix == named {
				sizes = append(sizes, size.Value())
			}
		}
	}
	if p.Spec.Resources != nil {
		add(p.Spec.Resources.Requests)
	}
	eachContainer(p, func(c *v1.Container) bool {
		add(c.Resources.Requests)
		return true
	})
	slices.Sort(sizes)
	switch sizes = slices.Compact(sizes); len(sizes) {
	case 0:
		return 0, fmt.Errorf("medium %s: hugePages storage requested, but there is no resource request for huge pages", medium)
	case 1:
		return sizes[0], nil
	}
	return 0, fmt.Errorf("medium: %s can't be used if container requests multiple huge page sizes", medium)
}

// memoryLimit is what a volume in memory may hold, in bytes: the least of what
// the node has for pods, what the pod may use, and the volume's own limit. 0 is
// no limit.
func (m *Manager) memoryLimit(p *v1.Pod, spec *v1.Volume) int64 {
	limit := m.Node().Status.Allocatable.Memory().Value()
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
