package podruntimetest

import (
	"slices"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

var sandboxRules = []rule{
	{"RunShows", runShows},
	{"RunIsIdempotent", runIsIdempotent},
	{"RunReplacesWhatIsNotReady", runReplaces},
	{"RunAtOnce", runAtOnce},
	{"NewestFirst", sandboxesNewestFirst},
	{"StopKillsAndStaysListed", stopSandboxKills},
	{"RemoveTakesTheContainersAlong", removeSandboxRemoves},
	{"RemoveLeavesOtherSandboxesAlone", removeSandboxLeavesOthers},
	{"EndedAndGoneIsSuccess", sandboxEndIsIdempotent},
	{"HostNetworkHasNoAddress", hostNetwork},
	{"NothingIsEmpty", nothingIsEmpty},
	{"ListAgreesWithInspect", listAgrees},
}

func runShows(w *world) {
	id := w.sandbox(0)
	o := w.observed()
	if len(o.Sandboxes) != 1 || o.Sandboxes[0].ID != id || !o.Sandboxes[0].Ready || o.Sandboxes[0].Attempt != 0 {
		w.Fatalf("after RunSandbox returned %s: %+v", id, o.Sandboxes)
	}
	if o.UID != pod.UID(w.pod.UID) || o.Namespace != w.pod.Namespace || o.Name != w.pod.Name {
		w.Errorf("the pod is observed as %s %s/%s", o.UID, o.Namespace, o.Name)
	}
	if o.Sandboxes[0].CreatedAt.IsZero() || o.At.Before(o.Sandboxes[0].CreatedAt) {
		w.Errorf("created at %v, observed at %v", o.Sandboxes[0].CreatedAt, o.At)
	}
	if len(o.Sandboxes[0].IPs) == 0 {
		w.Error("a ready sandbox has no address")
	}
}

func runIsIdempotent(w *world) {
	first := w.sandbox(0)
	if again := w.sandbox(0); again != first {
		w.Errorf("the second call made %s, the first %s", again, first)
	}
	if o := w.observed(); len(o.Sandboxes) != 1 {
		w.Errorf("%d sandboxes", len(o.Sandboxes))
	}
}

func runReplaces(w *world) {
	first := w.sandbox(0)
	w.ok(w.Runtime.StopSandbox(w.ctx, first))
	w.sandbox(0)
	o := w.observed()
	if len(o.Sandboxes) != 1 || !o.Sandboxes[0].Ready || o.Sandboxes[0].Attempt != 0 {
		w.Errorf("after a stopped sandbox was run again: %+v", o.Sandboxes)
	}
}

func runAtOnce(w *world) {
	const calls = 4
	var results []<-chan error
	ids := make([]string, calls)
	for i := range calls {
		results = append(results, async(func() (err error) {
			ids[i], err = w.Runtime.RunSandbox(w.ctx, w.sandboxConfig(0))
			return err
		}))
	}
	for _, result := range results {
		w.ok(w.within("RunSandbox", result))
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 1 {
		w.Errorf("calls at one time made different sandboxes: %v", ids)
	}
	if o := w.observed(); len(o.Sandboxes) != 1 {
		w.Errorf("%d sandboxes: %+v", len(o.Sandboxes), o.Sandboxes)
	}
}

func sandboxesNewestFirst(w *world) {
	for attempt := range uint32(3) {
		id := w.sandbox(attempt)
		if attempt < 2 {
			w.ok(w.Runtime.StopSandbox(w.ctx, id))
		}
	}
	o := w.observed()
	if len(o.Sandboxes) != 3 {
		w.Fatalf("%d sandboxes", len(o.Sandboxes))
	}
	for i, s := range o.Sandboxes {
		if s.Attempt != uint32(2-i) || s.Ready != (i == 0) {
			w.Errorf("at place %d attempt %d, ready %v", i, s.Attempt, s.Ready)
		}
	}
}

func stopSandboxKills(w *world) {
	sandbox := w.sandbox(0)
	id := w.create(sandbox, w.Stubborn, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	w.ok(w.Runtime.StopSandbox(w.ctx, sandbox))
	c := w.find(id)
	if c == nil || c.State != pod.ContainerExited || c.ExitCode != 137 {
		w.Errorf("the container after its sandbox was stopped: %+v", c)
	}
	o := w.observed()
	if len(o.Sandboxes) != 1 || o.Sandboxes[0].Ready {
		w.Errorf("the sandbox after it was stopped: %+v", o.Sandboxes)
	}
}

func removeSandboxRemoves(w *world) {
	sandbox := w.sandbox(0)
	running := w.create(sandbox, w.Server, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, running))
	w.create(sandbox, w.Server, 1)
	w.ok(w.Runtime.RemoveSandbox(w.ctx, sandbox))
	if o := w.observed(); !o.Empty() {
		w.Errorf("after its sandbox was removed the pod still has: %+v", o)
	}
}

func removeSandboxLeavesOthers(w *world) {
	old := w.sandbox(0)
	w.ok(w.Runtime.StopSandbox(w.ctx, old))
	current := w.sandbox(1)
	id := w.create(current, w.Server, 0)
	w.ok(w.Runtime.StartContainer(w.ctx, id))
	w.ok(w.Runtime.RemoveSandbox(w.ctx, old))
	if got := w.state(id); got != pod.ContainerRunning {
		w.Errorf("the container of another sandbox is %v", got)
	}
	o := w.observed()
	if len(o.Sandboxes) != 1 || o.Sandboxes[0].ID != current || !o.Sandboxes[0].Ready {
		w.Errorf("the other sandbox: %+v", o.Sandboxes)
	}
}

func sandboxEndIsIdempotent(w *world) {
	id := w.sandbox(0)
	for range 2 {
		w.ok(w.Runtime.StopSandbox(w.ctx, id))
	}
	for range 2 {
		w.ok(w.Runtime.RemoveSandbox(w.ctx, id))
	}
	w.ok(w.Runtime.StopSandbox(w.ctx, id))
}

func hostNetwork(w *world) {
	w.pod.Spec.HostNetwork = true
	w.sandbox(0)
	o := w.observed()
	if s := o.Sandbox(); s == nil || !s.Ready || len(s.IPs) != 0 {
		w.Errorf("a sandbox in the host's network: %+v", s)
	}
}

func nothingIsEmpty(w *world) {
	o := w.observed()
	if !o.Empty() || o.UID != pod.UID(w.pod.UID) || o.At.IsZero() {
		w.Errorf("a pod of which nothing exists: %+v", o)
	}
}

// listAgrees compares what a list is certain of.
func listAgrees(w *world) {
	sandbox := w.sandbox(0)
	w.create(sandbox, w.Server, 0)
	ended := w.create(sandbox, w.Server, 1)
	w.ok(w.Runtime.StartContainer(w.ctx, ended))
	w.ok(w.Runtime.StopContainer(w.ctx, ended, 0))
	running := w.create(sandbox, w.Server, 2)
	w.ok(w.Runtime.StartContainer(w.ctx, running))

	other := w.pod
	w.pod = w.newPod("other")
	w.sandbox(0)
	w.pod = other

	all, err := w.Runtime.ListPods(w.ctx)
	w.ok(err)
	seen := map[pod.UID]int{}
	for _, o := range all {
		seen[o.UID]++
		if o.UID == pod.UID(w.pod.UID) {
			inspected := w.observed()
			w.sameCertainties(&o, &inspected)
		}
	}
	if seen[pod.UID(w.pod.UID)] != 1 || len(all) < 2 {
		w.Errorf("the pod is listed %d times among %d", seen[pod.UID(w.pod.UID)], len(all))
	}
	if _, err := w.Runtime.InspectPod(w.ctx, "no-such-pod"); podruntime.IsNotFound(err) {
		w.Error("a pod of which nothing exists is an error")
	}
}

func (w *world) sameCertainties(listed, inspected *pod.Observed) {
	if listed.Name != inspected.Name || listed.Namespace != inspected.Namespace {
		w.Errorf("listed as %s/%s, inspected as %s/%s", listed.Namespace, listed.Name, inspected.Namespace, inspected.Name)
	}
	if len(listed.Sandboxes) != 1 || len(listed.Containers) != 3 ||
		len(inspected.Sandboxes) != 1 || len(inspected.Containers) != 3 {
		w.Fatalf("listed\n%+v\ninspected\n%+v", listed, inspected)
	}
	if a, b := listed.Sandboxes[0], inspected.Sandboxes[0]; a.ID != b.ID || a.Attempt != b.Attempt || a.Ready != b.Ready {
		w.Errorf("sandbox listed\n%+v\ninspected\n%+v", a, b)
	}
	for i, a := range listed.Containers {
		b := inspected.Containers[i]
		if a.ID != b.ID || a.Name != b.Name || a.Attempt != b.Attempt || a.State != b.State {
			w.Errorf("container listed\n%+v\ninspected\n%+v", a, b)
		}
	}
}
