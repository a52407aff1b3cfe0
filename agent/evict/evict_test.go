package evict

import (
	"slices"
	"testing"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

const mi = 1 << 20

func emptyDir(name, limit string, medium v1.StorageMedium) v1.Volume {
	source := &v1.EmptyDirVolumeSource{Medium: medium}
	if limit != "" {
		q := resource.MustParse(limit)
		source.SizeLimit = &q
	}
	return v1.Volume{Name: name, VolumeSource: v1.VolumeSource{EmptyDir: source}}
}

func container(limit string) v1.Container {
	c := v1.Container{}
	if limit != "" {
		c.Resources.Limits = v1.ResourceList{v1.ResourceEphemeralStorage: resource.MustParse(limit)}
	}
	return c
}

func TestReason(t *testing.T) {
	priority := int32(2_000_001_000)
	const onDisk, inMemory = v1.StorageMediumDefault, v1.StorageMediumMemory
	for name, test := range map[string]struct {
		spec    v1.PodSpec
		used    map[string]int64
		volumes []string
		reason  string
	}{
		"no limit": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "", onDisk)}}, used: map[string]int64{"a": 1 << 50}},
		"within": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "1Mi", onDisk)}}, used: map[string]int64{"a": mi},
			volumes: []string{"a"}},
		"over": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "1Mi", onDisk)}}, used: map[string]int64{"a": mi + 1},
			volumes: []string{"a"}, reason: `Usage of EmptyDir volume "a" exceeds the limit "1Mi". `},
		"the first that is over": {spec: v1.PodSpec{Volumes: []v1.Volume{
			emptyDir("a", "3Mi", onDisk), emptyDir("b", "", onDisk), emptyDir("c", "1500k", onDisk), emptyDir("d", "1", onDisk)}},
			used:    map[string]int64{"a": mi, "b": 9 * mi, "c": 2 * mi, "d": 2},
			volumes: []string{"a", "c", "d"}, reason: `Usage of EmptyDir volume "c" exceeds the limit "1500k". `},
		"a limit of 0 is none": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "0", onDisk)}}, used: map[string]int64{"a": mi}},
		"in memory": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "1Mi", inMemory)}, Containers: []v1.Container{container("1Mi")}},
			used: map[string]int64{"a": 2 * mi}},
		"not measured": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "1Mi", onDisk)}}, volumes: []string{"a"}},
		"critical":     {spec: v1.PodSpec{Priority: &priority, Volumes: []v1.Volume{emptyDir("a", "1Mi", onDisk)}}},
		"the pod's limit is that of its containers": {spec: v1.PodSpec{
			Volumes:    []v1.Volume{emptyDir("a", "", onDisk), emptyDir("b", "4Mi", onDisk)},
			Containers: []v1.Container{container("1Mi"), container(""), container("2Mi")}},
			used: map[string]int64{"a": mi, "b": 2*mi + 1}, volumes: []string{"a", "b"},
			reason: "Pod ephemeral local storage usage exceeds the total limit of containers 3Mi. "},
		"within the pod's limit": {spec: v1.PodSpec{Volumes: []v1.Volume{emptyDir("a", "", onDisk)}, Containers: []v1.Container{container("3Mi")}},
			used: map[string]int64{"a": 3 * mi}, volumes: []string{"a"}},
		"no volume": {spec: v1.PodSpec{Containers: []v1.Container{container("3Mi")}}},
	} {
		t.Run(name, func(t *testing.T) {
			p := &v1.Pod{Spec: test.spec}
			if got := Volumes(p); !slices.Equal(got, test.volumes) {
				t.Errorf("volumes %q, want %q", got, test.volumes)
			}
			if got := Reason(p, test.used); got != test.reason && test.spec.Priority == nil {
				t.Errorf("reason %q, want %q", got, test.reason)
			}
		})
	}
}
