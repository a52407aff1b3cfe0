package worker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/pod"
)

func (w *world) expectCalls(t *testing.T, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.calls, want) {
		t.Errorf("calls:\n  %s\nwant:\n  %s", strings.Join(w.calls, "\n  "), strings.Join(want, "\n  "))
	}
	w.calls = nil
}

func TestPodStartsAndIsDeleted(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		p := testPod("p", nil)
		w.put(p)
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0", "PullImage img", "CreateContainer a0", "StartContainer a-p-0")
		if got := w.status(); got.Phase != v1.PodRunning || got.PodIP != "10.0.0.1" || got.HostIP != "192.0.2.1" ||
			got.ContainerStatuses[0].ContainerID != "test://a-p-0" {
			t.Errorf("status of a running pod: %+v", got)
		}
		if want := []string{"Pulling", "Pulled", "Created", "Started"}; !slices.Equal(w.events, want) {
			t.Errorf("events %q, want %q", w.events, want)
		}

		deleted := p.DeepCopy()
		now, grace := metav1.Now(), int64(5)
		deleted.DeletionTimestamp, deleted.DeletionGracePeriodSeconds = &now, &grace
		w.put(deleted)
		synctest.Wait()
		w.expectCalls(t, "StopContainer a-p-0 5s", "StopSandbox s-p-0", "RemoveSandbox s-p-0")
		if got := w.status(); got.Phase != v1.PodFailed || got.ContainerStatuses[0].State.Terminated.ExitCode != 137 {
			t.Errorf("last status: %+v", got)
		}
		if !slices.Equal(w.finished, []pod.UID{"p"}) || !w.ended["p"] {
			t.Errorf("finished %v, ended %v", w.finished, w.ended)
		}

		// The API server no longer has it: the worker forgets it.
		d, _ := w.Get("p")
		d.Removed = time.Now()
		w.mu.Lock()
		w.desired["p"] = d
		w.mu.Unlock()
		w.worker.Mark("p")
		synctest.Wait()
		if _, known := w.Get("p"); known || len(w.worker.pods) != 0 {
			t.Errorf("the pod is still known after it was removed")
		}
		w.expectCalls(t)
	})
}

// What is left of a deleted pod is kept until the API server knows how it ended.
func TestNothingIsRemovedBeforeItIsTold(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		p := testPod("p", nil)
		w.put(p)
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
		w.mu.Lock()
		w.unwritten = true
		w.mu.Unlock()
		deleted := p.DeepCopy()
		now := metav1.Now()
		deleted.DeletionTimestamp = &now
		w.put(deleted)
		time.Sleep(time.Minute)
		w.expectCalls(t, "StopContainer a-p-0 30s", "StopSandbox s-p-0")
		s := w.status().ContainerStatuses[0]
		w.mu.Lock()
		if s.State.Terminated == nil || len(w.asked) == 0 || w.askedEarly {
			t.Errorf("status %+v, asked %v", s, w.asked)
		}
		w.unwritten = false
		w.mu.Unlock()
		w.worker.Mark("p")
		synctest.Wait()
		w.expectCalls(t, "RemoveSandbox s-p-0")
	})
}

// A static pod whose manifest was away for a moment runs again under its UID,
// and not as one that has ended.
func TestStaticPodComesBack(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.latency = 100 * time.Millisecond
		p := testPod("p", nil)
		w.put(p)
		time.Sleep(10 * time.Second)
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
		d, _ := w.Get("p")
		d.Removed = time.Now()
		w.mu.Lock()
		w.desired["p"], w.again["p"] = d, p
		w.mu.Unlock()
		w.worker.Mark("p")
		time.Sleep(time.Minute)
		w.expectCalls(t, "StopContainer a-p-0 30s", "StopSandbox s-p-0", "RemoveSandbox s-p-0",
			"RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
		if got := w.status(); got.Phase != v1.PodRunning {
			t.Errorf("status %+v", got)
		}
	})
}

func TestCrashLoopBacksOff(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.put(testPod("p", nil))
		synctest.Wait()
		began := time.Now()
		var starts []time.Duration
		for range 8 {
			w.exit("p", 1)
			synctest.Wait()
			if w.status().ContainerStatuses[0].State.Running == nil {
				// Its back-off is slept out; nothing else wakes the worker.
				for w.status().ContainerStatuses[0].State.Running == nil {
					time.Sleep(time.Second)
				}
			}
			starts = append(starts, time.Since(began).Truncate(time.Second))
		}
		want := []time.Duration{0, 10, 30, 70, 150, 310, 610, 910}
		for i := range want {
			if got := starts[i]; got < want[i]*time.Second || got > want[i]*time.Second+time.Duration(i+1)*time.Second {
				t.Errorf("restart %d after %v, want about %v", i+1, got, want[i]*time.Second)
			}
		}
		if got := w.status().ContainerStatuses[0].RestartCount; got != 8 {
			t.Errorf("restart count %d, want 8", got)
		}
	})
}

func TestPullFailureBacksOff(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.setFailure("PullImage", errors.New("no such host"))
		w.put(testPod("p", nil))
		synctest.Wait()
		waiting := func() string { return w.status().ContainerStatuses[0].State.Waiting.Reason }
		if got := waiting(); got != "ErrImagePull" {
			t.Errorf("waiting for %s, want ErrImagePull", got)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if got := waiting(); got != "ImagePullBackOff" {
			t.Errorf("waiting for %s, want ImagePullBackOff", got)
		}
		w.setFailure("PullImage", nil)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := w.status().Phase; got != v1.PodRunning {
			t.Errorf("phase %s once the image can be pulled, want Running", got)
		}
		for _, want := range []string{"Failed", "BackOff"} {
			if !slices.Contains(w.events, want) {
				t.Errorf("no event %s in %q", want, w.events)
			}
		}
	})
}

// The images of the volumes that a container mounts are pulled before its own, as it
// is; one that cannot be is why the container waits.
func TestImageVolumes(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.setFailure("PullImage", errors.New("no such host"))
		p := testPod("p", func(p *v1.Pod) {
			for _, name := range []string{"content", "unused"} {
				p.Spec.Volumes = append(p.Spec.Volumes, v1.Volume{Name: name, VolumeSource: v1.VolumeSource{
					Image: &v1.ImageVolumeSource{Reference: "example.com/" + name, PullPolicy: v1.PullIfNotPresent}}})
			}
			p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: "content", MountPath: "/content"}}
		})
		w.put(p)
		synctest.Wait()
		waiting := func() v1.ContainerStateWaiting { return *w.status().ContainerStatuses[0].State.Waiting }
		if got := waiting(); got.Reason != "ErrImagePull" || got.Message != "no such host" {
			t.Errorf("waiting for %+v, want ErrImagePull", got)
		}
		time.Sleep(25 * time.Second)
		synctest.Wait()
		want := v1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: `Back-off pulling image "example.com/content": ErrImagePull: no such host`}
		if got := waiting(); got != want {
			t.Errorf("waiting for %+v, want %+v", got, want)
		}
		w.setFailure("PullImage", nil)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if got := w.status().Phase; got != v1.PodRunning {
			t.Errorf("phase %s once the image can be pulled, want Running", got)
		}
		var pulled []string
		for _, call := range w.called() {
			if strings.HasPrefix(call, "PullImage") {
				pulled = append(pulled, call)
			}
		}
		pulled = slices.Compact(pulled)
		if want := []string{"PullImage example.com/content", "PullImage img"}; !slices.Equal(pulled, want) {
			t.Errorf("pulled %q, want %q", pulled, want)
		}
		for name, want := range map[string]string{
			`Back-off pulling image "example.com/content": ErrImagePull: x`: "example.com/content",
			`Back-off pulling image "img": ErrImagePull: x`:                 "img",
		} {
			if got := backedOff(p, "a", name); got != want {
				t.Errorf("%s is about %s", name, got)
			}
		}
	})
}

// Another image is pulled at once, and has a back-off of its own.
func TestPullFailureOfAnotherImage(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.setFailure("PullImage", errors.New("no such host"))
		p := testPod("p", nil)
		w.put(p)
		// 10 s, 20 s, 40 s: the fourth one would be after 70 s.
		time.Sleep(35 * time.Second)
		synctest.Wait()
		pulls := func() (n int) {
			for _, call := range w.called() {
				if strings.HasPrefix(call, "PullImage") {
					n++
				}
			}
			return n
		}
		if n := pulls(); n != 3 {
			t.Errorf("%d pulls in 35 s, want 3", n)
		}
		changed := p.DeepCopy()
		changed.Spec.Containers[0].Image = "img2"
		w.put(changed)
		synctest.Wait()
		if n := pulls(); n != 1 {
			t.Errorf("%d pulls of the new image, want 1 at once", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if n := pulls(); n != 1 {
			t.Errorf("%d more pulls of the new image after 11 s, want 1", n)
		}
	})
}

// A shorter grace period overtakes a stop that is under way.
func TestSecondDeleteOvertakes(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		p := testPod("p", nil)
		w.put(p)
		synctest.Wait()
		w.mu.Lock()
		w.latency, w.calls = time.Hour, nil
		w.mu.Unlock()
		deleteWith := func(grace int64) {
			d := p.DeepCopy()
			now := metav1.Now()
			d.DeletionTimestamp, d.DeletionGracePeriodSeconds = &now, &grace
			w.put(d)
			synctest.Wait()
		}
		deleteWith(30)
		deleteWith(30)
		deleteWith(3)
		w.expectCalls(t, "StopContainer a-p-0 30s", "StopContainer a-p-0 3s")
	})
}

// A pod that is deleted while its image is pulled does not wait for the pull; while
// the runtime makes something of it, it does, for that might appear when the pod is
// gone.
func TestDeleteDuringStart(t *testing.T) {
	for _, test := range []struct {
		slow  string
		waits bool
	}{{"PullImage", false}, {"RunSandbox", true}, {"CreateContainer", true}, {"StartContainer", true}} {
		t.Run(test.slow, func(t *testing.T) {
			play(t, func(t *testing.T, w *world) {
				w.slow = test.slow
				w.put(testPod("p", nil))
				time.Sleep(30 * time.Minute)
				p := testPod("p", nil)
				now, grace := metav1.Now(), int64(30)
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
				w.put(p)
				synctest.Wait()
				ended := func() bool {
					w.mu.Lock()
					defer w.mu.Unlock()
					return slices.Contains(w.finished, "p") && len(w.observed["p"].Sandboxes) == 0
				}
				if got := !ended(); got != test.waits {
					t.Errorf("its deletion waits: %v", got)
				}
				time.Sleep(time.Hour)
				if !ended() {
					t.Error("the pod's deletion was not completed")
				}
			})
		})
	}
}

// What cannot be stopped is tried again at intervals, not in a hurry.
func TestFailingStopIsPaced(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.put(testPod("p", nil))
		synctest.Wait()
		w.calls = nil
		w.setFailure("StopContainer", errors.New("device busy"))
		p := testPod("p", nil)
		now, grace := metav1.Now(), int64(2)
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
		w.put(p)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(w.calls); n < 5 || n > 8 {
			t.Errorf("%d stops in a minute, want about 6: %q", n, w.calls)
		}
		w.setFailure("StopContainer", nil)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if len(w.finished) != 1 {
			t.Errorf("the pod's deletion was not completed once it could be stopped")
		}
	})
}

// While the runtime cannot be asked what an action did, nothing is planned.
func TestNothingIsPlannedBlindly(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.setFailure("Refresh", errors.New("hung"))
		w.put(testPod("p", nil))
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0")
		w.setFailure("Refresh", nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.expectCalls(t, "CreateContainer a0", "StartContainer a-p-0")
	})
}

// A pod at rest costs nothing: no call, no goroutine of its own, no wake-up.
func TestIdlePodCostsNothing(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.put(testPod("p", nil))
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
		published := len(w.set)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		w.expectCalls(t)
		if len(w.set) != published || len(w.worker.queue.times) != 0 {
			t.Errorf("the pod was looked at while nothing happened")
		}
	})
}

func BenchmarkUnchangedPod(b *testing.B) {
	w := newWorld()
	w.images["img"] = true
	p := testPod("p", nil)
	w.put(p)
	ctx := b.Context()
	for {
		uids, _ := w.worker.queue.take(time.Now())
		for _, uid := range uids {
			w.worker.step(ctx, uid)
		}
		w.worker.actions.Wait()
		if w.status().Phase == v1.PodRunning {
			break
		}
	}
	w.calls = nil
	b.ReportAllocs()
	for b.Loop() {
		w.set = w.set[:0]
		w.worker.step(ctx, "p")
	}
	if len(w.calls) != 0 {
		b.Errorf("an unchanged pod cost calls: %q", w.calls)
	}
}

// What cannot be mounted is tried again after a while, and at once when
// something that the pod refers to has changed.
func TestMountFailureIsRetriedOnChange(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.setFailure("Mount", errors.New(`configmap "c" not found`))
		w.put(testPod("p", nil))
		synctest.Wait()
		w.expectCalls(t)
		if got := w.status().ContainerStatuses[0].State.Waiting.Reason; got != "ContainerCreating" || !slices.Contains(w.events, "FailedMount") {
			t.Errorf("waiting for %s, events %q", got, w.events)
		}
		w.setFailure("Mount", nil)
		w.worker.Retry("p")
		synctest.Wait()
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
	})
}

// A container that refers to what does not exist waits with the kubelet's
// reason until it does.
func TestConfigErrorIsRetriedOnChange(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.setFailure("ConfigMap", errors.New("not found"))
		ref := &v1.ConfigMapKeySelector{LocalObjectReference: v1.LocalObjectReference{Name: "c"}, Key: "k"}
		w.put(testPod("p", func(p *v1.Pod) {
			p.Spec.Containers[0].Env = []v1.EnvVar{{Name: "X", ValueFrom: &v1.EnvVarSource{ConfigMapKeyRef: ref}}}
		}))
		synctest.Wait()
		waiting := w.status().ContainerStatuses[0].State.Waiting
		if waiting.Reason != "CreateContainerConfigError" || waiting.Message != `configmap "c" not found` {
			t.Errorf("waiting: %+v", waiting)
		}
		if !w.registered["p"] {
			t.Error("the pod's references are not followed")
		}
		w.setFailure("ConfigMap", nil)
		w.worker.Retry("p")
		synctest.Wait()
		if got := w.status().Phase; got != v1.PodRunning {
			t.Errorf("phase %s once the config map is there, want Running", got)
		}
	})
}

// TestStartedOnce: an action that ends between a look at its pod and the plan made
// from it is not done once more.
func TestStartedOnce(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.latency, w.look = 2*time.Second, 3*time.Second
		w.put(testPod("p", nil))
		time.Sleep(time.Hour)
		w.expectCalls(t, "RunSandbox p0", "CreateContainer a0", "StartContainer a-p-0")
	})
}
