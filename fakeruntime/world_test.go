package fakeruntime

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// world is a Runtime in a synctest bubble.
type world struct {
	*testing.T
	*Runtime
}

// play runs a test in a bubble, with all containers behaving as b.
func play(t *testing.T, b Behavior, test func(w *world)) {
	t.Helper()
	playWith(t, Options{Script: always(b)}, test)
}

func playWith(t *testing.T, options Options, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(&world{t, New(options)}) })
}

func always(b Behavior) Script {
	return func(*v1.Pod, *v1.Container, uint32) Behavior { return b }
}

func newPod(name string) *v1.Pod {
	p := &v1.Pod{}
	p.Namespace, p.Name, p.UID = "ns", name, types.UID("uid-"+name)
	p.Spec.Containers = []v1.Container{{Name: "c", Image: "image"}}
	return p
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) sandbox(p *v1.Pod, attempt uint32) (id string) {
	w.Helper()
	id, err := w.RunSandbox(context.Background(), podruntime.SandboxConfig{Pod: p, Attempt: attempt})
	w.ok(err)
	return id
}

// create makes an incarnation of the pod's first container.
func (w *world) create(p *v1.Pod, sandbox string, attempt uint32) (id string) {
	w.Helper()
	id, err := w.CreateContainer(context.Background(), sandbox, w.config(p, attempt))
	w.ok(err)
	return id
}

func (w *world) config(p *v1.Pod, attempt uint32) podruntime.ContainerConfig {
	w.Helper()
	c := &p.Spec.Containers[0]
	w.lock()
	image := w.addImage("docker.io/library/" + c.Image + ":latest")
	w.unlock()
	return podruntime.ContainerConfig{Pod: p, Container: c, Attempt: attempt, ImageID: image}
}

func (w *world) start(p *v1.Pod) (id string) {
	w.Helper()
	id = w.create(p, w.sandbox(p, 0), 0)
	w.ok(w.StartContainer(context.Background(), id))
	return id
}

func (w *world) observed(p *v1.Pod) pod.Observed {
	w.Helper()
	o, err := w.InspectPod(context.Background(), pod.UID(p.UID))
	w.ok(err)
	return o
}

// container is the newest incarnation of the pod's container.
func (w *world) container(p *v1.Pod) pod.Container {
	w.Helper()
	o := w.observed(p)
	if len(o.Containers) == 0 {
		w.Fatal("the pod has no container")
	}
	return o.Containers[0]
}

func (w *world) wantState(p *v1.Pod, want pod.ContainerState) {
	w.Helper()
	if got := w.container(p).State; got != want {
		w.Errorf("%v after its start the container is %v, want %v", time.Since(w.container(p).StartedAt), got, want)
	}
}

// lasts returns how long f takes.
func lasts(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// ahead is how many things are to happen.
func (w *world) ahead() int {
	w.lock()
	defer w.unlock()
	return len(w.timeline.queue)
}
