package worker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/pod"
)

// sized is a pod whose container asks for CPU.
func sized(cpu string, generation int64) *v1.Pod {
	return testPod("p", func(p *v1.Pod) {
		p.Generation = generation
		p.Spec.Containers[0].Resources.Requests = v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)}
	})
}

// grant has the pod be as it was granted, or not granted.
func (w *world) grant(granted, asked *v1.Pod, resize *pod.Rejection) {
	w.mu.Lock()
	d := w.desired["p"]
	d.Pod, d.Asked, d.Resize = granted, asked, resize
	if resize == nil {
		d.Granted = granted.Generation
	}
	w.desired["p"] = d
	w.mu.Unlock()
	w.worker.Mark("p")
	synctest.Wait()
}

func TestResize(t *testing.T) {
	play(t, func(t *testing.T, w *world) {
		w.images["img"] = true
		w.put(sized("100m", 1))
		synctest.Wait()
		w.called()
		w.expectEvents(t, "Pulled", "Created", "Started")
		for range 2 {
			w.grant(sized("100m", 2), sized("200m", 2), &pod.Rejection{Reason: v1.PodReasonDeferred, Message: "no room"})
		}
		w.expectEvents(t, "ResizeDeferred")
		if s := w.status(); s.Conditions[0].Type != v1.PodResizePending || s.Conditions[0].Message != "no room" {
			t.Errorf("conditions %+v", s.Conditions)
		}
		w.setFailure("UpdateContainer", errors.New("busy"))
		w.grant(sized("200m", 2), sized("200m", 2), nil)
		w.expectEvents(t, "ResizeStarted", "ResizeError")
		if s := w.status(); s.Conditions[0].Type != v1.PodResizeInProgress || s.Conditions[0].Reason != "Error" || s.Conditions[0].Message != "busy" {
			t.Errorf("conditions %+v", s.Conditions)
		}
		w.setFailure("UpdateContainer", nil)
		time.Sleep(time.Minute)
		w.expectEvents(t, "ResizeCompleted")
		w.expectCalls(t, "UpdateContainer a-p-0 200m", "UpdateContainer a-p-0 200m")
		s := w.status()
		if c := s.ContainerStatuses[0]; s.Conditions[0].Type == v1.PodResizeInProgress || c.AllocatedResources.Cpu().String() != "200m" ||
			c.Resources.Requests.Cpu().String() != "200m" || c.RestartCount != 0 {
			t.Errorf("status %+v", s)
		}
	})
}
