package observe

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nodelet/agent/pod"
)

// fakeRuntime has the pods it is given; calls take what latency says.
type fakeRuntime struct {
	mu          sync.Mutex
	pods        map[pod.UID]pod.Observed
	listErr     error
	latency     map[pod.UID]time.Duration
	lists       int
	inspections int
	told        func(pod.UID)
}

func (f *fakeRuntime) ListPods(context.Context) ([]pod.Observed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	var all []pod.Observed
	for _, o := range f.pods {
		all = append(all, o)
	}
	return all, f.listErr
}

func (f *fakeRuntime) InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error) {
	f.mu.Lock()
	f.inspections++
	latency, found := f.latency[uid], f.pods[uid]
	delete(f.latency, uid)
	f.mu.Unlock()
	select {
	case <-time.After(latency):
		return found, nil
	case <-ctx.Done():
		return pod.Observed{}, ctx.Err()
	}
}

func (f *fakeRuntime) Subscribe(notify func(pod.UID)) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = notify
	return func() {}
}

func (f *fakeRuntime) set(uid pod.UID, state pod.ContainerState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pods[uid] = pod.Observed{UID: uid, Containers: []pod.Container{{ID: string(uid) + "-c", Name: "c", State: state}}}
}

type bubble struct {
	*fakeRuntime
	*Observer
	mu      sync.Mutex
	changes []pod.UID
}

func (b *bubble) state(uid pod.UID) pod.ContainerState {
	o, ok := b.Get(uid)
	if !ok || o.Empty() {
		return -1
	}
	return o.Containers[0].State
}

func (b *bubble) takeChanges() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.changes)
	b.changes = nil
	return n
}

func play(t *testing.T, f func(t *testing.T, b *bubble)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{fakeRuntime: &fakeRuntime{pods: map[pod.UID]pod.Observed{}, latency: map[pod.UID]time.Duration{}}}
		b.Observer = New(DefaultConfig(), b.fakeRuntime, func(uid pod.UID) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.changes = append(b.changes, uid)
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		b.set("old", pod.ContainerRunning)
		go func() { b.Run(ctx); close(done) }()
		synctest.Wait()
		f(t, b)
		cancel()
		<-done
	})
}

func TestFirstListComesBeforeAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runtime := &fakeRuntime{pods: map[pod.UID]pod.Observed{}, listErr: errors.New("starting")}
		o := New(DefaultConfig(), runtime, func(pod.UID) {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { o.Run(ctx); close(done) }()
		time.Sleep(5 * time.Second)
		if _, ok := o.Get("p"); ok {
			t.Error("a pod was said to be absent before the runtime was listed")
		}
		runtime.mu.Lock()
		runtime.listErr = nil
		runtime.mu.Unlock()
		<-o.Synced()
		if got, ok := o.Get("p"); !ok || !got.Empty() {
			t.Errorf("after the first list: %+v, %v", got, ok)
		}
		cancel()
		<-done
	})
}

func TestNotificationsBringALookForward(t *testing.T) {
	play(t, func(t *testing.T, b *bubble) {
		if b.state("old") != pod.ContainerRunning {
			t.Fatal("the pod from before was not seen")
		}
		b.takeChanges()
		b.set("old", pod.ContainerExited)
		b.notify("old")
		b.notify("old")
		synctest.Wait()
		if b.state("old") != pod.ContainerExited || b.takeChanges() != 1 {
			t.Error("the change was not seen once and at once")
		}
		b.notify("old")
		synctest.Wait()
		if b.takeChanges() != 0 {
			t.Error("a look that found nothing new marked the pod")
		}
	})
}

func TestListFindsWhatNoNotificationTold(t *testing.T) {
	play(t, func(t *testing.T, b *bubble) {
		b.set("new", pod.ContainerRunning)
		b.set("old", pod.ContainerExited)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if b.state("new") != pod.ContainerRunning || b.state("old") != pod.ContainerExited {
			t.Error("the list did not show the changes")
		}
		b.fakeRuntime.mu.Lock()
		delete(b.fakeRuntime.pods, "new")
		b.fakeRuntime.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if b.state("new") != -1 {
			t.Error("the list did not show that the pod is gone")
		}
	})
}

// A look that began earlier and ends later must not hide what a newer one saw.
func TestOldLookDoesNotOverwriteNew(t *testing.T) {
	play(t, func(t *testing.T, b *bubble) {
		b.fakeRuntime.mu.Lock()
		b.latency["old"] = 10 * time.Second
		b.fakeRuntime.mu.Unlock()
		b.notify("old") // sees it running, answers late
		synctest.Wait()
		b.set("old", pod.ContainerExited)
		if err := b.Refresh(t.Context(), "old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if b.state("old") != pod.ContainerExited {
			t.Error("a late answer overwrote a newer one")
		}
		// The same with a pod that was gone in between.
		b.fakeRuntime.mu.Lock()
		b.latency["old"] = 10 * time.Second
		b.fakeRuntime.mu.Unlock()
		b.notify("old")
		synctest.Wait()
		b.fakeRuntime.mu.Lock()
		delete(b.fakeRuntime.pods, "old")
		b.fakeRuntime.mu.Unlock()
		if err := b.Refresh(t.Context(), "old"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if b.state("old") != -1 {
			t.Error("a late answer brought a pod back that is gone")
		}
	})
}

func TestHungLookHoldsUpNoOther(t *testing.T) {
	play(t, func(t *testing.T, b *bubble) {
		b.fakeRuntime.mu.Lock()
		b.latency["old"] = time.Hour
		b.fakeRuntime.mu.Unlock()
		b.notify("old")
		synctest.Wait()
		b.set("new", pod.ContainerRunning)
		b.notify("new")
		synctest.Wait()
		if b.state("new") != pod.ContainerRunning {
			t.Error("a hung look held up another pod's")
		}
	})
}

func TestIdleCostsAListAMinute(t *testing.T) {
	play(t, func(t *testing.T, b *bubble) {
		b.fakeRuntime.mu.Lock()
		b.lists, b.inspections = 0, 0
		b.fakeRuntime.mu.Unlock()
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if b.lists != 60 || b.inspections != 0 {
			t.Errorf("%d lists and %d looks in an idle hour, want 60 and 0", b.lists, b.inspections)
		}
	})
}
