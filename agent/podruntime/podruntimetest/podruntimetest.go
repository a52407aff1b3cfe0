// Package podruntimetest is the conformance suite of package podruntime: what
// every runtime must do, whether it is made of memory or of Docker. It runs on
// each implementation from that implementation's own tests.
//
// A test is a function on a world: a runtime with one pod of its own. Tests
// wait through world.until and world.eventually only, so that they work in a
// testing/synctest bubble as well as on a real machine. To add a rule, add a
// function to the file of its facet and name it in that file's table.
package podruntimetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Harness is a runtime under test with what the suite has it run. The suite
// sets the containers' names; each may be run many times.
type Harness struct {
	Runtime podruntime.Runtime
	// Image can be pulled, UnknownImage cannot because no registry has it.
	Image, UnknownImage string
	// Server runs until it is stopped and, from when it has written a line, ends
	// within a second of SIGTERM.
	Server v1.Container
	// Stubborn runs and ignores SIGTERM from when it has written a line.
	Stubborn v1.Container
	// Fails ends by itself with exit code 3 within two seconds, Completes with
	// exit code 0.
	Fails, Completes v1.Container
	// Prints writes LogLines to stdout as it starts and then runs on.
	Prints v1.Container
	// CannotStart can be created, but its start fails. Without a name of the
	// image or a command the rule is not tested.
	CannotStart v1.Container
	// ExecExits is a command that ends with the given code, ExecPrints one that
	// prints a word, and ExecBlocks one that does not end for an hour.
	ExecExits  func(code int) []string
	ExecPrints func(word string) []string
	ExecBlocks []string
	// Patience is how long the suite waits for something that is to come; 0 is
	// 30 seconds.
	Patience time.Duration
}

// LogLines are what Harness.Prints writes.
var LogLines = [...]string{"one", "two", "three"}

// In gives a test a harness; it is called once a test, within it. It may put
// the test into a synctest bubble.
type In func(t *testing.T, test func(t *testing.T, h Harness))

// Run tests every rule as a subtest of t.
func Run(t *testing.T, in In) {
	for _, facet := range []struct {
		name  string
		rules []rule
	}{
		{"Sandboxes", sandboxRules},
		{"Containers", containerRules},
		{"Stop", stopRules},
		{"Images", imageRules},
		{"Streams", streamRules},
		{"Events", eventRules},
	} {
		t.Run(facet.name, func(t *testing.T) {
			for _, r := range facet.rules {
				t.Run(r.name, func(t *testing.T) {
					in(t, func(t *testing.T, h Harness) { r.test(newWorld(t, h)) })
				})
			}
		})
	}
}

type rule struct {
	name string
	test func(w *world)
}

// world is a runtime with a pod.
type world struct {
	*testing.T
	Harness
	ctx context.Context
	pod *v1.Pod
}

// graceOfPod is the termination grace period of the suite's pods.
const graceOfPod = 7 * time.Second

func newWorld(t *testing.T, h Harness) *world {
	if h.Patience == 0 {
		h.Patience = 30 * time.Second
	}
	w := &world{T: t, Harness: h, ctx: t.Context()}
	w.pod = w.newPod("conformance")
	return w
}

// newPod returns a pod that the runtime has nothing of; at the test's end
// everything of it is removed.
func (w *world) newPod(name string) *v1.Pod {
	grace := int64(graceOfPod / time.Second)
	p := &v1.Pod{}
	p.Namespace, p.Name = "podruntimetest", name
	// Unique enough that what an earlier run left behind cannot disturb.
	p.UID = types.UID(fmt.Sprintf("%s-%x", name, time.Now().UnixNano()))
	p.Spec.TerminationGracePeriodSeconds = &grace
	p.Spec.RestartPolicy = v1.RestartPolicyAlways
	p.Spec.Containers = []v1.Container{w.container(w.Server, "server")}
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), w.Patience)
		defer cancel()
		o, err := w.Runtime.InspectPod(ctx, pod.UID(p.UID))
		if err != nil {
			w.Errorf("inspecting the pod to clean up: %v", err)
		}
		for _, s := range o.Sandboxes {
			if err := w.Runtime.RemoveSandbox(ctx, s.ID); err != nil {
				w.Errorf("cleaning up: %v", err)
			}
		}
	})
	return p
}

// container completes one of the harness's containers.
func (w *world) container(c v1.Container, name string) v1.Container {
	c = *c.DeepCopy()
	c.Name = name
	if c.Image == "" {
		c.Image = w.Image
	}
	return c
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("unexpected error: %v", err)
	}
}

// eventually waits for a condition.
func (w *world) eventually(what string, condition func() bool) {
	w.Helper()
	deadline := time.Now().Add(w.Patience)
	for !condition() {
		if time.Now().After(deadline) {
			w.Fatalf("in %v it did not come to this: %s", w.Patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// within waits for a call to return, and returns its error.
func (w *world) within(what string, result <-chan error) error {
	w.Helper()
	timer := time.NewTimer(w.Patience)
	defer timer.Stop()
	select {
	case err := <-result:
		return err
	case <-timer.C:
		w.Fatalf("in %v it did not return: %s", w.Patience, what)
		return nil
	}
}

// async calls f in the background.
func async(f func() error) <-chan error {
	result := make(chan error, 1)
	go func() { result <- f() }()
	return result
}

// observed is the pod as it is.
func (w *world) observed() pod.Observed {
	w.Helper()
	o, err := w.Runtime.InspectPod(w.ctx, pod.UID(w.pod.UID))
	w.ok(err)
	return o
}

// find returns a container of the pod by its ID, or nil.
func (w *world) find(id string) *pod.Container {
	w.Helper()
	o := w.observed()
	for i := range o.Containers {
		if o.Containers[i].ID == id {
			return &o.Containers[i]
		}
	}
	return nil
}

// state asks for the state of a container that must be there.
func (w *world) state(id string) pod.ContainerState {
	w.Helper()
	c := w.find(id)
	if c == nil {
		w.Fatalf("container %s is not observed", id)
	}
	return c.State
}

// sandbox runs a sandbox for the pod.
func (w *world) sandbox(attempt uint32) (id string) {
	w.Helper()
	id, err := w.Runtime.RunSandbox(w.ctx, w.sandboxConfig(attempt))
	w.ok(err)
	return id
}

func (w *world) sandboxConfig(attempt uint32) podruntime.SandboxConfig {
	return podruntime.SandboxConfig{Pod: w.pod, Attempt: attempt, Hostname: w.pod.Name}
}

// image makes sure of the image and returns its ID.
func (w *world) image() (id string) {
	w.Helper()
	if image, err := w.Runtime.Image(w.ctx, w.Image); err == nil {
		return image.ID
	}
	id, err := w.Runtime.PullImage(w.ctx, podruntime.PullRequest{Ref: w.Image, Pod: w.pod}, nil)
	w.ok(err)
	return id
}

// config is how to make a container of the pod.
func (w *world) config(spec v1.Container, attempt uint32) podruntime.ContainerConfig {
	w.Helper()
	c := w.container(spec, "server")
	return podruntime.ContainerConfig{Pod: w.pod, Container: &c, Attempt: attempt, ImageID: w.image(), ImageRef: "example.org/app@sha256:12",
		Hash: pod.ContainerHash(&c), Command: c.Command, Args: c.Args}
}

// create makes a container named server.
func (w *world) create(sandbox string, spec v1.Container, attempt uint32) (id string) {
	w.Helper()
	id, err := w.Runtime.CreateContainer(w.ctx, sandbox, w.config(spec, attempt))
	w.ok(err)
	return id
}

// start makes a container in a new sandbox and runs it.
func (w *world) start(spec v1.Container) (id string) {
	w.Helper()
	id = w.create(w.sandbox(0), spec, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	return id
}
