//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// apiAccess is the volume that the API server gives to every pod.
const apiAccess = `
serviceAccountName: default
containers: [{name: c, volumeMounts: [{name: api, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}]}]
volumes:
- name: api
  projected:
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3607}
    - configMap: {name: ca, items: [{key: ca.crt, path: ca.crt}]}
    - downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}
`

// The store of simulated nodes does what a Manager expects of one.
func TestMemory(t *testing.T) {
	s := NewMemory()
	w := &world{t: t, configMaps: map[string]*v1.ConfigMap{}, reads: map[string]int{}, life: time.Hour}
	w.Manager = w.manager(s)
	w.setConfigMap("ca", "ca.crt=CA")
	p := podOf(t, apiAccess)
	p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: "h", VolumeSource: v1.VolumeSource{HostPath: &v1.HostPathVolumeSource{Path: "/nowhere"}}})
	c := &p.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, v1.VolumeMount{Name: "h", MountPath: "/h", SubPath: "a/b"})
	for range 2 {
		w.mount(p)
		w.mount(p)
		for file, want := range map[string]string{"token": "ns/default#1", "ca.crt": "CA", "namespace": "ns"} {
			if got, err := s.ReadFile("uid-1", "api", file); err != nil || got != want {
				t.Errorf("%s holds %q, %v", file, got, err)
			}
		}
		mounts, err := w.Mounts(p, c, nil)
		must(t, err)
		if mounts[0].HostPath != "/pods/uid-1/volumes/kubernetes.io~projected/api" || mounts[1].HostPath != "/nowhere/a/b" {
			t.Errorf("mounts %+v", mounts)
		}
		if file, err := w.File("uid-1", "etc-hosts", nil); file != "" || err != nil {
			t.Errorf("file %q, %v", file, err)
		}
		if got := w.Orphans(); !slices.Equal(got, []pod.UID{"uid-1"}) {
			t.Errorf("there are %q", got)
		}
		must(t, w.Unmount(t.Context(), "uid-1"))
		if _, err := s.ReadFile("uid-1", "api", "token"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error %v", err)
		}
		if got := w.Orphans(); len(got) != 1 {
			t.Errorf("there are %q", got)
		}
		must(t, w.Remove(t.Context(), "uid-1"))
		if got := w.Orphans(); len(got) != 0 {
			t.Errorf("there are %q", got)
		}
		w.requests = nil
	}
}

// A simulated pod costs little, and equal files of many pods next to nothing.
func TestMemoryOfManyPods(t *testing.T) {
	s := NewMemory()
	w := &world{t: t, configMaps: map[string]*v1.ConfigMap{}, reads: map[string]int{}, life: time.Hour}
	w.Manager = w.manager(s)
	w.setConfigMap("ca", "ca.crt="+strings.Repeat("CA", 10_000))
	p := podOf(t, apiAccess)
	const pods = 5000
	objects := make([]*v1.Pod, pods)
	for i := range objects {
		o := *p
		o.UID = types.UID(fmt.Sprint("uid", i))
		objects[i] = &o
	}
	before := heapInUse()
	for _, o := range objects {
		w.mount(o)
	}
	w.requests = nil
	each := (heapInUse() - before) / pods
	t.Logf("%d bytes a pod", each)
	if each > 1200 {
		t.Errorf("%d bytes a pod", each)
	}
	runtime.KeepAlive(objects)
	runtime.KeepAlive(w)
}

func heapInUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
