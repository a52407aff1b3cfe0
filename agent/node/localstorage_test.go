package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// disk is what a LocalStorage under test works with.
type disk struct {
	pods []*v1.Pod
	// used is by UID; a measurement takes some time and ends in err.
	used map[pod.UID]int64
	took time.Duration
	err  error

	began   time.Time
	looks   []time.Duration
	evicted map[pod.UID]string
}

func playStorage(t *testing.T, test func(d *disk, l *LocalStorage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &disk{used: map[pod.UID]int64{}, evicted: map[pod.UID]string{}, began: time.Now()}
		l := NewLocalStorage(LocalStorageDeps{
			Active: func() []*v1.Pod { return d.pods },
			Usage: func(_ context.Context, uid pod.UID, volume string) (int64, error) {
				if volume != "data" {
					t.Errorf("volume %q is measured", volume)
				}
				d.looks = append(d.looks, time.Since(d.began))
				time.Sleep(d.took)
				return d.used[uid], d.err
			},
			Evict: func(uid pod.UID, reason string) {
				d.evicted[uid] = reason
				d.pods = slices.DeleteFunc(d.pods, func(p *v1.Pod) bool { return pod.UID(p.UID) == uid })
			},
			Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		defer func() { cancel(); <-done }()
		test(d, l)
	})
}

func limited(uid, limit string) *v1.Pod {
	p := &v1.Pod{}
	p.Name, p.UID = uid, types.UID(uid)
	source := &v1.EmptyDirVolumeSource{}
	if limit != "" {
		q := resource.MustParse(limit)
		source.SizeLimit = &q
	}
	p.Spec.Volumes = []v1.Volume{{Name: "data", VolumeSource: v1.VolumeSource{EmptyDir: source}}}
	return p
}

// later lets some seconds pass.
func later(seconds int) {
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
}

// Pods are looked at every 10 s from when there is one with a limit, until there is
// none any more.
func TestLocalStorage(t *testing.T) {
	playStorage(t, func(d *disk, l *LocalStorage) {
		free := limited("free", "")
		d.pods = append(d.pods, free)
		d.used["free"] = 1 << 40
		l.Update(free)
		later(3600)
		if len(d.looks) > 0 {
			t.Errorf("measured at %v though there is no limit", d.looks)
		}
		d.began = time.Now()
		for _, uid := range []string{"small", "large"} {
			p := limited(uid, "1Mi")
			d.pods = append(d.pods, p)
			l.Update(p)
		}
		later(15)
		d.used["large"] = 1<<20 + 1
		later(10)
		want := map[pod.UID]string{"large": `Usage of EmptyDir volume "data" exceeds the limit "1Mi". `}
		if !maps.Equal(d.evicted, want) {
			t.Errorf("evicted %q, want %q", d.evicted, want)
		}
		d.pods = []*v1.Pod{free}
		later(3600)
		s := time.Second
		if want := []time.Duration{10 * s, 10 * s, 20 * s, 20 * s}; !slices.Equal(d.looks, want) {
			t.Errorf("measured at %v, want %v", d.looks, want)
		}
	})
}

// What takes long to measure is measured less often, and what could be measured of
// it counts.
func TestLocalStorageThatIsSlow(t *testing.T) {
	playStorage(t, func(d *disk, l *LocalStorage) {
		p := limited("huge", "1Mi")
		d.pods, d.took, d.err = []*v1.Pod{p}, 3*time.Second, errors.New("too deep")
		l.Update(p)
		later(50)
		d.used["huge"] = 2 << 20
		later(40)
		s := time.Second
		if want := []time.Duration{10 * s, 43 * s, 76 * s}; !slices.Equal(d.looks, want) {
			t.Errorf("measured at %v, want %v", d.looks, want)
		}
		if d.evicted["huge"] == "" {
			t.Error("not evicted")
		}
	})
}
