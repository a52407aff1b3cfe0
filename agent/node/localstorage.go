package node

import (
	"context"
	"log/slog"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/evict"
	"nodelet/agent/pod"
)

// localStoragePeriod is the time between two looks at what pods use, as with the
// kubelet; where a look takes long there is restFactor times as long between them.
const (
	localStoragePeriod = 10 * time.Second
	restFactor         = 10
)

// LocalStorageDeps is what a LocalStorage works with. All are needed.
type LocalStorageDeps struct {
	// Active are the pods of which something may run.
	Active func() []*v1.Pod
	// Usage measures an emptyDir of a pod on disk, in bytes; with an error at least
	// that.
	Usage func(ctx context.Context, uid pod.UID, volume string) (int64, error)
	// Evict has a pod end, for a reason.
	Evict func(uid pod.UID, reason string)
	Log   *slog.Logger
}

// LocalStorage has pods end that use more of the node's disk than they may. While
// there are none with a limit, it does nothing.
type LocalStorage struct {
	LocalStorageDeps
	wake chan struct{}
}

// NewLocalStorage returns a LocalStorage; nothing is measured before Run.
func NewLocalStorage(deps LocalStorageDeps) *LocalStorage {
	return &LocalStorage{deps, make(chan struct{}, 1)}
}

// Update tells of a pod that is new or has changed. It does not wait.
func (l *LocalStorage) Update(p *v1.Pod) {
	if len(evict.Volumes(p)) == 0 {
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run looks until ctx ends.
func (l *LocalStorage) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for rest, limited := localStoragePeriod, true; limited; {
			timer := time.NewTimer(rest)
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			began := time.Now()
			limited = l.look(ctx)
			rest = max(localStoragePeriod, restFactor*time.Since(began))
		}
	}
}

// look measures the pods that have a limit, one after the other, and reports whether
// there are any.
func (l *LocalStorage) look(ctx context.Context) (limited bool) {
	for _, p := range l.Active() {
		volumes := evict.Volumes(p)
		if len(volumes) == 0 {
			continue
		}
		limited = true
		used := map[string]int64{}
		for _, name := range volumes {
			size, err := l.Usage(ctx, pod.UID(p.UID), name)
			if ctx.Err() != nil {
				return limited
			}
			if err != nil {
				l.Log.Warn("Cannot measure a volume", "pod", pod.FullName(p), "err", err)
			}
			used[name] = size
		}
		if reason := evict.Reason(p, used); reason != "" {
			l.Evict(pod.UID(p.UID), reason)
		}
	}
	return limited
}
