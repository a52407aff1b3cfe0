package fakeruntime

import (
	"context"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/pod"
)

// What a container writes is there from its time on, also when the container is
// not; another incarnation writes the same file.
func TestWritten(t *testing.T) {
	b := Behavior{Writes: []Write{
		{Volume: "data", Size: resource.MustParse("1Ki"), After: time.Second},
		{Volume: "data", Size: resource.MustParse("2Ki"), After: 3 * time.Second},
		{Volume: "read", Size: resource.MustParse("1Ki")},
		{Volume: "other", Size: resource.MustParse("1Ki")},
	}}
	play(t, b, func(w *world) {
		p := newPod("p")
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "data"}, {Name: "read", ReadOnly: true}}
		want := func(volume string, size int64) {
			w.Helper()
			if got := w.Written(pod.UID(p.UID), volume); got != size {
				w.Errorf("%d bytes in %s, want %d", got, volume, size)
			}
		}
		want("data", 0)
		first := w.start(p)
		want("data", 0)
		time.Sleep(time.Second)
		want("data", 1024)
		time.Sleep(3 * time.Second)
		want("data", 3072)
		want("read", 0)
		want("other", 0)
		w.ok(w.StopContainer(context.Background(), first, 0))
		time.Sleep(time.Hour)
		want("data", 3072)
		second := w.create(p, w.observed(p).Sandboxes[0].ID, 1)
		w.ok(w.StartContainer(context.Background(), second))
		w.ok(w.RemoveContainer(context.Background(), first))
		want("data", 3072)
		time.Sleep(2 * time.Second)
		want("data", 3072)
		w.ok(w.RemoveContainer(context.Background(), second))
		want("data", 3072)
	})
}
