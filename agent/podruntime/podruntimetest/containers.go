package podruntimetest

import (
	"context"
	"errors"
	"reflect"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

var containerRules = []rule{
	{"CreateShows", createShows},
	{"KeepsThePreStopHook", keepsPreStop},
	{"SeesItsTarget", seesTarget},
	{"CreateIsIdempotent", createIsIdempotent},
	{"CreateAtOnce", createAtOnce},
	{"CreateMovesToTheNewSandbox", createMoves},
	{"CreateNeedsAReadySandbox", createNeedsSandbox},
	{"CreateNeedsTheImage", createNeedsImage},
	{"StartShows", startShows},
	{"StartThatFails", startFails},
	{"StartNeedsTheContainer", startNeedsContainer},
	{"EndsByItself", endsByItself},
	{"NewestFirst", containersNewestFirst},
	{"RemoveKills", removeKills},
	{"RemoveIsIdempotent", removeIsIdempotent},
	{"Update", update},
	{"EndedContext", endedContext},
}

func createShows(w *world) {
	sandbox := w.sandbox(0)
	config := w.config(w.Server, 5)
	config.Hash = "0123abcd"
	id, err := w.Runtime.CreateContainer(w.ctx, sandbox, config)
	w.ok(err)
	c := w.find(id)
	if c == nil {
		w.Fatal("the container is not observed")
	}
	if c.Name != "server" || c.SandboxID != sandbox || c.Attempt != 5 || c.Hash != "0123abcd" {
		w.Errorf("created in sandbox %s: %+v", sandbox, c)
	}
	if c.State != pod.ContainerCreated || c.CreatedAt.IsZero() || !c.StartedAt.IsZero() || !c.FinishedAt.IsZero() {
		w.Errorf("a created container: %+v", c)
	}
	if c.ImageRef != config.ImageRef {
		w.Errorf("image reference %q, want %q", c.ImageRef, config.ImageRef)
	}
	if c.Image != config.Container.Image || c.ImageID != config.ImageID {
		w.Errorf("made from image %q (%s), not %q (%s)", c.Image, c.ImageID, config.Container.Image, config.ImageID)
	}
	if c.TerminationGrace != graceOfPod {
		w.Errorf("termination grace %v, want %v", c.TerminationGrace, graceOfPod)
	}
}

// The preStop hook outlives whoever knew the pod. A port that it names may come
// back as its number.
func keepsPreStop(w *world) {
	sandbox := w.sandbox(0)
	if c := w.find(w.create(sandbox, w.Server, 0)); c.PreStop != nil {
		w.Errorf("a container without hooks has %+v", c.PreStop)
	}
	spec := *w.Server.DeepCopy()
	spec.Ports = []v1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	for attempt, hook := range []v1.LifecycleHandler{
		{Sleep: &v1.SleepAction{Seconds: 3}},
		{Exec: &v1.ExecAction{Command: []string{"say", "good bye"}}},
		{HTTPGet: &v1.HTTPGetAction{Path: "/bye?now", Scheme: "HTTP", Port: intstr.FromString("web")}},
	} {
		spec.Lifecycle = &v1.Lifecycle{PreStop: &hook}
		id := w.create(sandbox, spec, uint32(attempt+1))
		w.ok(w.Runtime.StartContainer(w.ctx, id))
		got := w.find(id).PreStop
		if got != nil && got.HTTPGet != nil && got.HTTPGet.Port == intstr.FromInt32(8080) {
			got = got.DeepCopy()
			got.HTTPGet.Port = hook.HTTPGet.Port
		}
		if !reflect.DeepEqual(got, &hook) {
			w.Errorf("kept %+v, want %+v", got, hook)
		}
	}
}

// A container that sees the processes of another one ends with it.
func seesTarget(w *world) {
	sandbox := w.sandbox(0)
	config := w.config(w.Server, 0)
	config.Target = "no-such-container"
	if _, err := w.Runtime.CreateContainer(w.ctx, sandbox, config); err == nil {
		w.Error("a container was made for a target that does not exist")
	}
	target := w.create(sandbox, w.Server, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, target))
	config = w.config(w.Stubborn, 1)
	config.Target = target
	id, err := w.Runtime.CreateContainer(w.ctx, sandbox, config)
	w.ok(err)
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	if got := w.state(id); got != pod.ContainerRunning {
		w.Errorf("beside its target it is %v", got)
	}
	w.ok(w.Runtime.StopContainer(w.ctx, target, graceOfPod))
	w.eventually("it ends with its target", func() bool { return w.state(id) == pod.ContainerExited })
}

func createIsIdempotent(w *world) {
	sandbox := w.sandbox(0)
	first := w.create(sandbox, w.Server, 0)
	if again := w.create(sandbox, w.Server, 0); again != first {
		w.Errorf("the second call made %s, the first %s", again, first)
	}
	if o := w.observed(); len(o.Containers) != 1 {
		w.Errorf("%d containers", len(o.Containers))
	}
	w.ok(w.Runtime.StartContainer(w.ctx, first))
	if next := w.create(sandbox, w.Server, 1); next == first {
		w.Error("another attempt is the same container")
	}
}

func createAtOnce(w *world) {
	const calls = 4
	config := w.config(w.Server, 0)
	sandbox := w.sandbox(0)
	ids := make([]string, calls)
	var results []<-chan error
	for i := range calls {
		results = append(results, async(func() (err error) {
			ids[i], err = w.Runtime.CreateContainer(w.ctx, sandbox, config)
			return err
		}))
	}
	for _, result := range results {
		w.ok(w.within("CreateContainer", result))
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		w.Errorf("calls at one time made different containers: %v", ids)
	}
}

// A container that was never started does not bar its name for the pod's next
// sandbox.
func createMoves(w *world) {
	old := w.sandbox(0)
	w.create(old, w.Server, 0)
	w.ok(w.Runtime.StopSandbox(w.ctx, old))
	current := w.sandbox(1)
	id := w.create(current, w.Server, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	if c := w.find(id); c.SandboxID != current || c.State != pod.ContainerRunning {
		w.Errorf("the container in the new sandbox %s: %+v", current, c)
	}
}

func createNeedsSandbox(w *world) {
	config := w.config(w.Server, 0)
	if _, err := w.Runtime.CreateContainer(w.ctx, "no-such-sandbox", config); !podruntime.IsNotFound(err) {
		w.Errorf("in no sandbox: %v, want not found", err)
	}
	sandbox := w.sandbox(0)
	w.ok(w.Runtime.StopSandbox(w.ctx, sandbox))
	if id, err := w.Runtime.CreateContainer(w.ctx, sandbox, config); err == nil {
		w.Errorf("in a stopped sandbox container %s was created", id)
	}
	if o := w.observed(); len(o.Containers) != 0 {
		w.Errorf("calls that failed left %+v", o.Containers)
	}
}

func createNeedsImage(w *world) {
	sandbox := w.sandbox(0)
	config := w.config(w.Server, 0)
	config.ImageID = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	if _, err := w.Runtime.CreateContainer(w.ctx, sandbox, config); !podruntime.IsNotFound(err) {
		w.Errorf("from an image that is not there: %v, want not found", err)
	}
}

func startShows(w *world) {
	id := w.start(w.Server)
	c := w.find(id)
	if c == nil || c.State != pod.ContainerRunning || c.StartedAt.IsZero() || c.StartedAt.Before(c.CreatedAt) || !c.FinishedAt.IsZero() {
		w.Errorf("a started container: %+v", c)
	}
}

func startFails(w *world) {
	if w.CannotStart.Image == "" && len(w.CannotStart.Command) == 0 && len(w.CannotStart.Args) == 0 {
		w.Skip("the harness has no such container")
	}
	id := w.create(w.sandbox(0), w.CannotStart, 0)
	if err := w.Runtime.StartContainer(w.ctx, id); err == nil {
		w.Fatal("the start succeeded")
	}
	switch c := w.find(id); {
	case c == nil:
		w.Error("the container is gone")
	case c.State == pod.ContainerCreated:
	case c.State != pod.ContainerExited || c.Reason != "ContainerCannotRun" || c.ExitCode == 0 || c.Message == "":
		w.Errorf("after a failed start: %+v", c)
	}
}

func startNeedsContainer(w *world) {
	if err := w.Runtime.StartContainer(w.ctx, "no-such-container"); !podruntime.IsNotFound(err) {
		w.Errorf("starting what does not exist: %v, want not found", err)
	}
	sandbox := w.sandbox(0)
	id := w.create(sandbox, w.Server, 0)
	w.ok(w.Runtime.StopSandbox(w.ctx, sandbox))
	if err := w.Runtime.StartContainer(w.ctx, id); err == nil {
		w.Error("a container was started in a stopped sandbox")
	}
	if got := w.state(id); got == pod.ContainerRunning {
		w.Error("a container runs in a stopped sandbox")
	}
}

func endsByItself(w *world) {
	sandbox := w.sandbox(0)
	for attempt, want := range []struct {
		spec     v1.Container
		exitCode int32
		reason   string
	}{{w.Fails, 3, "Error"}, {w.Completes, 0, "Completed"}} {
		id := w.create(sandbox, want.spec, uint32(attempt))
		w.ok(w.Runtime.StartContainer(w.ctx, id))
		w.eventually("the container has ended", func() bool { return w.state(id) == pod.ContainerExited })
		c := w.find(id)
		if c.ExitCode != want.exitCode || c.Reason != want.reason || c.FinishedAt.Before(c.StartedAt) {
			w.Errorf("ended with %+v, want exit code %d, reason %s", c, want.exitCode, want.reason)
		}
		w.ok(w.Runtime.StopContainer(w.ctx, id, graceOfPod))
		if c := w.find(id); c.ExitCode != want.exitCode {
			w.Errorf("stopping it afterwards made its exit code %d", c.ExitCode)
		}
	}
}

func containersNewestFirst(w *world) {
	sandbox := w.sandbox(0)
	for attempt := range uint32(4) {
		w.create(sandbox, w.Server, attempt)
	}
	o := w.observed()
	if len(o.Containers) != 4 {
		w.Fatalf("%d containers", len(o.Containers))
	}
	for i, c := range o.Containers {
		if c.Attempt != uint32(3-i) {
			w.Errorf("at place %d attempt %d", i, c.Attempt)
		}
	}
}

func removeKills(w *world) {
	id := w.stubborn()
	w.ok(w.Runtime.RemoveContainer(w.ctx, id))
	if c := w.find(id); c != nil {
		w.Errorf("after it was removed: %+v", c)
	}
	o := w.observed()
	if s := o.Sandbox(); s == nil || !s.Ready {
		w.Errorf("its sandbox: %+v", s)
	}
}

func removeIsIdempotent(w *world) {
	id := w.create(w.sandbox(0), w.Server, 0)
	for range 2 {
		w.ok(w.Runtime.RemoveContainer(w.ctx, id))
	}
	w.ok(w.Runtime.StopContainer(w.ctx, id, graceOfPod))
}

func update(w *world) {
	list := func(cpu, memory string) v1.ResourceList {
		return v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu), v1.ResourceMemory: resource.MustParse(memory)}
	}
	spec := *w.Server.DeepCopy()
	spec.Resources = v1.ResourceRequirements{Requests: list("100m", "16Mi"), Limits: list("200m", "96Mi")}
	id := w.start(spec)
	resources := spec.Resources
	for _, next := range []v1.ResourceRequirements{
		{Requests: list("150m", "16Mi"), Limits: list("1500m", "128Mi")},
		{Requests: list("1m", "8Mi"), Limits: list("5m", "64Mi")},
	} {
		w.wantResources(id, resources)
		resources = next
		w.ok(w.Runtime.UpdateContainer(w.ctx, id, resources))
	}
	w.wantResources(id, resources)
	if err := w.Runtime.UpdateContainer(w.ctx, "no-such-container", resources); !podruntime.IsNotFound(err) {
		w.Errorf("updating what does not exist: %v, want not found", err)
	}
}

// wantResources checks what a running container shows of its resources.
func (w *world) wantResources(id string, want v1.ResourceRequirements) {
	w.Helper()
	c := w.find(id)
	if c.State != pod.ContainerRunning {
		w.Errorf("after an update in place it is %v", c.State)
	}
	if c.Resources == nil || *c.Resources != pod.ResourcesOf(want) {
		w.Errorf("it has %+v, want %+v", c.Resources, pod.ResourcesOf(want))
	}
}

// endedContext: no call does its work for a caller that has gone, and all say
// so.
func endedContext(w *world) {
	sandbox := w.sandbox(0)
	config := w.config(w.Server, 0)
	ctx, cancel := context.WithCancel(w.ctx)
	cancel()
	calls := map[string]func() error{
		"RunSandbox": func() error { _, err := w.Runtime.RunSandbox(ctx, w.sandboxConfig(1)); return err },
		"CreateContainer": func() error {
			_, err := w.Runtime.CreateContainer(ctx, sandbox, config)
			return err
		},
		"ListPods":   func() error { _, err := w.Runtime.ListPods(ctx); return err },
		"InspectPod": func() error { _, err := w.Runtime.InspectPod(ctx, pod.UID(w.pod.UID)); return err },
		"Status":     func() error { _, err := w.Runtime.Status(ctx); return err },
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			w.Errorf("%s: %v, want that the context was cancelled", name, err)
		}
	}
	if o := w.observed(); len(o.Sandboxes) != 1 || len(o.Containers) != 0 {
		w.Errorf("calls with an ended context made %+v", o)
	}
}
