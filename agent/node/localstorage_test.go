package node

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
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
	sync.Mutex
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
			Active: func() []*v1.Pod {
				d.Lock()
				defer d.Unlock()
				return slices.Clone(d.pods)
			},
			Usage: func(_ context.Context, uid pod.UID, volume string) (int64, error) {
				if volume != "data" {
					t.Errorf("volume %q is measured", volume)
				}
				d.Lock()
				defer d.Unlock()
				d.looks = append(d.looks, time.Since(d.began))
				time.Sleep(d.took)
				return d.used[uid], d.err
			},
			Evict: func(uid pod.UID, reason string) {
				d.Lock()
				defer d.Unlock()
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

// later changes the disk after some seconds.
func (d *disk) later(seconds int, change func()) {
	time.Sleep(time.Duration(seconds) * time.Second)
	synctest.Wait()
	d.Lock()
	defer d.Unlock()
	change()
}

// Pods are looked at every 10 s from when there is one with a limit, until there is
// none any more.
func TestLocalStorage(t *testing.T) {
	playStorage(t, func(d *disk, l *LocalStorage) {
		free := limited("free", "")
		d.later(0, func() { d.pods, d.used["free"] = append(d.pods, free), 1<<40 })
		l.Update(free)
		var added []*v1.Pod
		d.later(3600, func() {
			if len(d.looks) > 0 {
				t.Errorf("measured at %v though there is no limit", d.looks)
			}
			d.began = time.Now()
			added = []*v1.Pod{limited("small", "1Mi"), limited("large", "1Mi")}
			d.pods = append(d.pods, added...)
		})
		for _, p := range added {
			l.Update(p)
		}
		d.later(15, func() { d.used["large"] = 1<<20 + 1 })
		d.later(10, func() {
			want := map[pod.UID]string{"large": `Usage of EmptyDir volume "data" exceeds the limit "1Mi". `}
			if !maps.Equal(d.evicted, want) {
				t.Errorf("evicted %q, want %q", d.evicted, want)
			}
			d.pods = []*v1.Pod{free}
		})
		d.later(3600, func() {
			s := time.Second
			if want := []time.Duration{10 * s, 10 * s, 20 * s, 20 * s}; !slices.Equal(d.looks, want) {
				t.Errorf("measured at %v, want %v", d.looks, want)
			}
		})
	})
}

// What takes long to measure is measured less often, and what could be measured of
// it counts.
func TestLocalStorageThatIsSlow(t *testing.T) {
	playStorage(t, func(d *disk, l *LocalStorage) {
		p := limited("huge", "1Mi")
		d.later(0, func() { d.pods, d.took, d.err = []*v1.Pod{p}, 3*time.Second, errors.New("too deep") })
		l.Update(p)
		d.later(50, func() { d.used["huge"] = 2 << 20 })
		d.later(40, func() {
			s := time.Second
			if want := []time.Duration{10 * s, 43 * s, 76 * s}; !slices.Equal(d.looks, want) {
				t.Errorf("measured at %v, want %v", d.looks, want)
			}
			if d.evicted["huge"] == "" {
				t.Error("not evicted")
			}
		})
	})
}
