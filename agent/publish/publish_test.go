package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// fakeAPI keeps one pod. Each call takes latency and fails with fail.
type fakeAPI struct {
	mu      sync.Mutex
	pod     *v1.Pod
	latency time.Duration
	fail    error
	// failDelete fails deletions alone.
	failDelete error
	// amend is what the API server makes of a status.
	amend   func(*v1.PodStatus)
	calls   []string
	version int
	// turns has the turns to call; nil for always.
	turns chan struct{}
}

func (f *fakeAPI) begin(call string) error {
	time.Sleep(f.latency)
	f.mu.Lock()
	f.calls = append(f.calls, call)
	return f.fail
}

func (f *fakeAPI) GetPod(_ context.Context, _, _ string) (*v1.Pod, error) {
	err := f.begin("get")
	defer f.mu.Unlock()
	return f.pod, err
}

func (f *fakeAPI) AwaitTurn(ctx context.Context) error {
	if f.turns == nil {
		return ctx.Err()
	}
	select {
	case <-f.turns:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeAPI) PatchPodStatus(_ context.Context, old *v1.Pod, status v1.PodStatus) (*v1.Pod, error) {
	err := f.begin("patch " + status.Message)
	defer f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case f.pod == nil:
		return nil, notFound(old.Name)
	case f.pod.UID != old.UID:
		return nil, fmt.Errorf("patching: %w", apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, old.Name, errors.New("uid")))
	}
	next := f.pod.DeepCopy()
	next.Status = status
	if f.amend != nil {
		f.amend(&next.Status)
	}
	f.store(next)
	return next, nil
}

func notFound(name string) error {
	return fmt.Errorf("calling: %w", apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name))
}

func (f *fakeAPI) store(p *v1.Pod) {
	f.version++
	p.ResourceVersion = strconv.Itoa(f.version)
	f.pod = p
}

func (f *fakeAPI) DeletePod(_ context.Context, _, _ string, _ types.UID, _ time.Duration) error {
	err := f.begin("delete")
	defer f.mu.Unlock()
	if err == nil {
		err = f.failDelete
	}
	if err == nil {
		f.pod = nil
	}
	return err
}

func (f *fakeAPI) expect(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.calls, want) {
		t.Errorf("calls %q, want %q", f.calls, want)
	}
	f.calls = nil
}

func play(t *testing.T, f func(t *testing.T, api *fakeAPI, p *Publisher)) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		api.store(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}})
		p := New(api, nil, func(pod.UID) {}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.Run(ctx); close(done) }()
		f(t, api, p)
		cancel()
		<-done
	})
}

// writing counts the goroutines that write.
func writing() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*Publisher).writeQueued(")
}

func says(message string, conditions ...v1.PodCondition) v1.PodStatus {
	return v1.PodStatus{Phase: v1.PodRunning, Message: message, Conditions: conditions}
}

func TestStatusesAreCoalesced(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		api.latency = time.Second
		object := api.pod
		for i := range 100 {
			p.Set(object, says(strconv.Itoa(i)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		api.expect(t, "patch 0", "patch 99")
	})
}

func TestUnchangedIsNotWritten(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		p.Set(api.pod, says("a"))
		synctest.Wait()
		api.expect(t, "patch a")
		for range 100 {
			p.Set(api.pod, says("a"))
		}
		p.OnPod(api.pod)
		synctest.Wait()
		api.expect(t)
		if n := writing(); n > 0 {
			t.Errorf("%d writers at rest", n)
		}
		// An agent that starts anew finds the status as it should be.
		fresh := New(api, nil, func(pod.UID) {}, slog.New(slog.DiscardHandler))
		fresh.Set(api.pod, says("a"))
		if len(fresh.queue) != 0 {
			t.Error("a status that the API server has was queued")
		}
	})
}

// The API server may store something else than it was sent. Sending it again
// would not help.
func TestAnswerThatDiffersIsAccepted(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		api.amend = func(s *v1.PodStatus) { s.QOSClass = v1.PodQOSBurstable }
		for range 3 {
			now := api.pod
			p.Set(now, says("a"))
			p.OnPod(now)
			synctest.Wait()
		}
		api.expect(t, "patch a")
		p.Set(api.pod, says("b"))
		synctest.Wait()
		api.expect(t, "patch b")
	})
}

func TestForeignChangeIsRepaired(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		gate := v1.PodCondition{Type: "example.com/gate", Status: v1.ConditionTrue}
		ready := v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionTrue}
		old := api.pod
		p.Set(api.pod, says("a", ready))
		synctest.Wait()
		api.expect(t, "patch a")

		// Somebody adds a condition of their own: it stays, nothing is written.
		api.mu.Lock()
		next := api.pod.DeepCopy()
		next.Status.Conditions = append([]v1.PodCondition{gate}, next.Status.Conditions...)
		api.store(next)
		api.mu.Unlock()
		p.OnPod(api.pod)
		synctest.Wait()
		api.expect(t)
		p.Set(api.pod, says("b", ready))
		synctest.Wait()
		api.expect(t, "patch b")
		if got := api.pod.Status.Conditions; len(got) != 2 {
			t.Errorf("conditions %v: the foreign one is lost", got)
		}

		// Somebody changes what the node says: it says it again.
		api.mu.Lock()
		next = api.pod.DeepCopy()
		next.Status.Message = "lie"
		api.store(next)
		api.mu.Unlock()
		p.OnPod(api.pod)
		synctest.Wait()
		api.expect(t, "patch b")

		// The watch is behind: nothing is to be repaired.
		p.OnPod(old)
		synctest.Wait()
		api.expect(t)
	})
}

func TestDeletionIsCompletedAfterTheLastStatus(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		now := metav1.Now()
		api.pod.DeletionTimestamp = &now
		api.latency = time.Second
		object := api.pod
		p.Set(object, says("ending"))
		time.Sleep(500 * time.Millisecond)
		p.Finish(object, says("ended"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		api.expect(t, "patch ending", "patch ended", "delete")
		if len(p.pods) != 0 {
			t.Error("the pod is still known after its deletion")
		}
	})
}

func TestFailuresAreTriedAgain(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		api.fail = errors.New("no route")
		object := api.pod
		p.Set(object, says("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(api.calls); n < 8 || n > 11 {
			t.Errorf("%d tries in a minute, want about 9", n)
		}
		api.mu.Lock()
		api.fail, api.calls = nil, nil
		api.mu.Unlock()
		p.Set(object, says("b"))
		time.Sleep(11 * time.Second)
		synctest.Wait()
		api.expect(t, "patch b")
	})
}

func TestAnotherPodOfTheNameIsLeftAlone(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		object := api.pod
		other := object.DeepCopy()
		other.UID = "other"
		api.store(other)
		p.Set(object, says("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		api.expect(t, "patch a", "get")
		if api.pod.Status.Message != "" || len(p.pods) != 0 {
			t.Error("the other pod was touched, or the old one is still known")
		}
	})
}

// A pod that ended by itself is deleted later, and so is one whose object was
// behind when it was finished.
func TestDeletionIsCompletedWhenItComes(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		p.Finish(api.pod, says("done"))
		synctest.Wait()
		api.expect(t, "patch done")
		p.Set(api.pod, says("done"))
		api.mu.Lock()
		next := api.pod.DeepCopy()
		now := metav1.Now()
		next.DeletionTimestamp = &now
		api.store(next)
		api.mu.Unlock()
		p.OnPod(next)
		synctest.Wait()
		api.expect(t, "patch done", "delete")
		if len(p.pods) != 0 {
			t.Error("the pod is still known after its deletion")
		}
	})
}

func TestDeletionIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		fail error
		want []string
	}{
		"failed":       {errors.New("no route"), []string{"patch ended", "delete", "patch ended", "delete"}},
		"already gone": {notFound("p"), []string{"patch ended", "delete"}},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
				now := metav1.Now()
				api.pod.DeletionTimestamp = &now
				api.failDelete = test.fail
				p.Finish(api.pod, says("ended"))
				synctest.Wait()
				api.mu.Lock()
				api.failDelete = nil
				api.mu.Unlock()
				time.Sleep(firstRetry)
				synctest.Wait()
				api.expect(t, test.want...)
				if len(p.pods) != 0 || len(p.retries) != 0 {
					t.Errorf("still known: %v, to be tried again: %v", p.pods, p.retries)
				}
			})
		})
	}
}

// However much there is to write and however it fails, the goroutines are few.
func TestWritersAreFew(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		set := func(message string) {
			for i := range 300 {
				p.Set(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID(strconv.Itoa(i))}}, says(message))
			}
		}
		api.latency, api.fail = time.Second, errors.New("no route")
		set("a")
		synctest.Wait()
		if n := writing(); n != maxWriters {
			t.Errorf("%d writers, want %d", n, maxWriters)
		}
		time.Sleep(45 * time.Second)
		api.mu.Lock()
		api.fail = notFound("p")
		api.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := writing(); n > 0 || len(p.pods) > 0 || p.writers != 0 {
			t.Errorf("at rest: %d goroutines, %d pods, %d writers", n, len(p.pods), p.writers)
		}
	})
}

func TestNothingIsTakenBackOfAnEndedPod(t *testing.T) {
	terminated := v1.ContainerStatus{Name: "c", State: v1.ContainerState{Terminated: &v1.ContainerStateTerminated{ExitCode: 3}}}
	waiting := v1.ContainerStatus{Name: "c", State: v1.ContainerState{Waiting: &v1.ContainerStateWaiting{}}}
	running := v1.ContainerStatus{Name: "c", State: v1.ContainerState{Running: &v1.ContainerStateRunning{}}}
	for name, test := range map[string]struct {
		phase         v1.PodPhase
		known, wanted v1.ContainerStatus
		wantPhase     v1.PodPhase
		want          v1.ContainerStatus
	}{
		"ended, waiting": {v1.PodFailed, terminated, waiting, v1.PodFailed, terminated},
		// Set so by someone else while the container still runs: that is told.
		"ended, running":   {v1.PodFailed, running, running, v1.PodFailed, running},
		"running, waiting": {v1.PodRunning, terminated, waiting, v1.PodPending, waiting},
	} {
		t.Run(name, func(t *testing.T) {
			e := entry{known: &v1.Pod{Status: v1.PodStatus{Phase: test.phase, ContainerStatuses: []v1.ContainerStatus{test.known}}},
				wanted: v1.PodStatus{Phase: v1.PodPending, ContainerStatuses: []v1.ContainerStatus{test.wanted}}}
			got := e.status()
			if got.Phase != test.wantPhase || !reflect.DeepEqual(got.ContainerStatuses[0], test.want) {
				t.Errorf("phase %s, container %+v; want %s, %+v", got.Phase, got.ContainerStatuses[0], test.wantPhase, test.want)
			}
			if !reflect.DeepEqual(e.wanted.ContainerStatuses[0], test.wanted) {
				t.Error("the status that was handed over was changed")
			}
		})
	}
}

func BenchmarkSetUnchanged(b *testing.B) {
	api := &fakeAPI{}
	api.store(&v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u"}})
	status := says("a", v1.PodCondition{Type: v1.PodReady, Status: v1.ConditionTrue})
	api.pod.Status = status
	p := New(api, nil, func(pod.UID) {}, slog.New(slog.DiscardHandler))
	b.ReportAllocs()
	for b.Loop() {
		p.Set(api.pod, status)
	}
	if len(p.queue) != 0 {
		b.Error("an unchanged status was queued")
	}
}

// Where the calls are fewer than what is to be written, crash loops wait for the others.
func TestCrashLoopsYield(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		api.turns = make(chan struct{})
		set := func(uid string, restarts int32) {
			known := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID(uid), ResourceVersion: "1"}}
			status := says(uid)
			status.ContainerStatuses = []v1.ContainerStatus{{RestartCount: restarts}}
			p.Set(known, status)
			synctest.Wait()
		}
		api.pod.UID = "loop"
		for n := range int32(3) {
			set("loop", n)
			api.turns <- struct{}{}
			synctest.Wait()
		}
		api.expect(t, "patch loop", "patch loop", "patch loop")
		// From now on no pod is found, which is the end of it.
		api.fail = notFound("p")
		set("loop", 3)
		set("first", 0)
		set("second", 0)
		for range 3 {
			api.turns <- struct{}{}
			synctest.Wait()
		}
		api.expect(t, "patch first", "patch second", "patch loop")
		if n := len(p.pods); n > 0 {
			t.Errorf("%d pods are left", n)
		}
	})
}

// Whoever asks whether a status is written hears of it once it is, or nobody wants it.
func TestWritten(t *testing.T) {
	play(t, func(t *testing.T, api *fakeAPI, p *Publisher) {
		told := 0
		p.written = func(uid pod.UID) {
			if told++; uid != "u" {
				t.Errorf("told of %s", uid)
			}
		}
		api.turns = make(chan struct{})
		if !p.Written("u") {
			t.Error("a pod of which nothing is to be written is waited for")
		}
		p.Set(api.pod, says("a"))
		if p.Written("u") {
			t.Error("it was not written yet")
		}
		api.turns <- struct{}{}
		synctest.Wait()
		if !p.Written("u") || told != 1 {
			t.Errorf("written, and told %d times", told)
		}
		// Nobody has asked.
		p.Set(api.pod, says("b"))
		api.turns <- struct{}{}
		synctest.Wait()
		if told != 1 {
			t.Errorf("told %d times", told)
		}
		p.Set(api.pod, says("c"))
		if p.Written("u") {
			t.Error("it was not written yet")
		}
		api.fail = notFound("p")
		api.turns <- struct{}{}
		synctest.Wait()
		if !p.Written("u") || told != 2 {
			t.Errorf("the pod is gone, and it was told %d times", told)
		}
	})
}
