package plan_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// TestPlan plays the scripts in testdata. Each is the life of one pod:
//
//	pod             a pod's spec in YAML starts a new life at +0s, in which its
//	                volumes give nothing to do; with "files" they do
//	done            mounted|unmounted|removed …: what was done to its files
//	observe         what the runtime has, newest first:
//	                  sandbox ATTEMPT ready|dead
//	                  NAME ATTEMPT running|created|unknown|exited [code=N] [at=DUR] [reason=R] [sandbox=ATTEMPT] [hash=OLD] [has=CPU/MEMORY]
//	probe NAME      liveness=success|failure … of the newest incarnation
//	now             +DUR
//	delete          [grace=SECONDS], or removed, from the API server
//	reject          reason=R
//	preempt         the pod is to make room for a critical one
//	evict           the pod uses too much
//	unknown         no source knows the pod (any more)
//	image NAME      IMAGE changes the spec
//	resize NAME     CPU/MEMORY changes the request of CPU and the limit of memory, or
//	                resize deferred: the node has no room for it
//	fail NAME       reason=R [pull] [retry=DUR]: the last start failed
//	status          what the API server's status says: phase=P, NAME=running|exited:CODE [restarts=N]
//	restart         another agent comes, when the API server has the last status
//	plan            [underway] prints the decision and the status; with
//	                underway its actions have not ended at the next plan
func TestPlan(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasPrefix(path, "testdata/fuzz/") {
			// What FuzzPlan has found.
			return
		}
		l := &life{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return l.do(t, d)
		})
	})
}

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

type life struct {
	desired  *pod.Desired
	observed pod.Observed
	probes   pod.Probes
	history  *plan.History
	now      time.Time
	status   v1.PodStatus
	notReady bool
	// untold says that the API server has not been told how the pod has ended.
	untold bool
}

func (l *life) do(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "pod":
		p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u1", Generation: 1}}
		if err := yaml.UnmarshalStrict([]byte(d.Input), &p.Spec); err != nil {
			d.Fatalf(t, "pod spec: %v", err)
		}
		*l = life{desired: &pod.Desired{Pod: p, Source: pod.SourceAPI, FirstSeen: epoch}, now: epoch,
			probes: pod.Probes{}, observed: pod.Observed{UID: "u1"},
			history: &plan.History{InFlight: map[string]plan.Action{}, Containers: map[string]plan.Container{}}}
		if !d.HasArg("files") {
			l.history.Mounted, l.history.Unmounted, l.history.Removed = true, true, true
		}
	case "done":
		l.history.Mount = plan.Failure{}
		l.history.Mounted = l.history.Mounted || d.HasArg("mounted")
		l.history.Unmounted = l.history.Unmounted || d.HasArg("unmounted")
		l.history.Removed = l.history.Removed || d.HasArg("removed")
	case "observe":
		l.observe(t, d)
	case "probe":
		l.probe(t, d)
	case "now":
		after, err := time.ParseDuration(strings.TrimPrefix(d.CmdArgs[0].Key, "+"))
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		l.now = epoch.Add(after)
	case "delete":
		l.delete(t, d)
	case "removed":
		l.change(func(next *pod.Desired) { next.Removed = l.now })
	case "reject":
		l.change(func(next *pod.Desired) {
			next.Rejection = &pod.Rejection{Reason: d.CmdArgs[0].Vals[0], Message: "does not fit"}
		})
	case "preempt":
		l.change(func(next *pod.Desired) { next.Preempted = true })
	case "evict":
		l.change(func(next *pod.Desired) { next.Evicted = "It uses too much. " })
	case "unknown":
		l.desired = nil
	case "sources-not-ready":
		l.notReady = true
	case "untold":
		l.untold = true
	case "told":
		l.untold = false
	case "image":
		l.change(func(next *pod.Desired) {
			next.Pod = next.Pod.DeepCopy()
			for i := range next.Pod.Spec.Containers {
				if c := &next.Pod.Spec.Containers[i]; c.Name == d.CmdArgs[0].Key {
					c.Image = d.CmdArgs[1].Key
				}
			}
		})
	case "resize":
		l.resize(t, d)
	case "fail-mount":
		l.history.Mount = plan.Failure{Reason: "FailedMount", At: l.now, RetryAt: l.now.Add(10 * time.Second)}
	case "fail":
		l.fail(t, d)
	case "status":
		l.apiStatus(t, d)
	case "restart":
		l.change(func(next *pod.Desired) {
			next.Pod = next.Pod.DeepCopy()
			next.Pod.Status = l.status
		})
		l.status, l.probes = v1.PodStatus{}, pod.Probes{}
		l.history = &plan.History{Mounted: true, Unmounted: true, Removed: true,
			InFlight: map[string]plan.Action{}, Containers: map[string]plan.Container{}}
	case "plan":
		return l.plan(d.HasArg("underway"))
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return ""
}

func (l *life) change(f func(*pod.Desired)) {
	next := *l.desired
	f(&next)
	l.desired = &next
}

// resize changes a container's request of CPU and limit of memory, as they are
// granted, or has a resize wait.
func (l *life) resize(t *testing.T, d *datadriven.TestData) {
	l.change(func(next *pod.Desired) {
		next.Pod, next.Resize = next.Pod.DeepCopy(), nil
		if d.HasArg("deferred") {
			next.Resize = &pod.Rejection{Reason: v1.PodReasonDeferred, Message: "no room"}
			return
		}
		c, _ := pod.ContainerSpec(next.Pod, d.CmdArgs[0].Key)
		c.Resources = cpuAndMemory(d.CmdArgs[1].Key)
	})
}

// cpuAndMemory is a request of CPU and a limit of memory, as 100m/64Mi.
func cpuAndMemory(s string) v1.ResourceRequirements {
	cpu, memory, _ := strings.Cut(s, "/")
	return v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: resource.MustParse(cpu)},
		Limits: v1.ResourceList{v1.ResourceMemory: resource.MustParse(memory)}}
}

func (l *life) delete(t *testing.T, d *datadriven.TestData) {
	grace := int64(30)
	d.MaybeScanArgs(t, "grace", &grace)
	l.change(func(next *pod.Desired) {
		next.Pod = next.Pod.DeepCopy()
		at := metav1.NewTime(l.now.Add(time.Duration(grace) * time.Second))
		next.Pod.DeletionTimestamp, next.Pod.DeletionGracePeriodSeconds = &at, &grace
	})
}

func (l *life) observe(t *testing.T, d *datadriven.TestData) {
	l.observed = pod.Observed{UID: "u1", Namespace: "default", Name: "p", At: l.now}
	for line := range strings.Lines(d.Input) {
		f := strings.Fields(line)
		attempt, err := strconv.Atoi(f[1])
		if err != nil {
			d.Fatalf(t, "%s: %v", line, err)
		}
		if f[0] == "sandbox" {
			s := pod.Sandbox{ID: "s" + f[1], Attempt: uint32(attempt), Ready: f[2] == "ready"}
			if s.Ready {
				s.IPs = []string{"10.1.0." + f[1]}
			}
			l.observed.Sandboxes = append(l.observed.Sandboxes, s)
			continue
		}
		l.observed.Containers = append(l.observed.Containers, l.container(t, d, f, uint32(attempt)))
	}
}

func (l *life) container(t *testing.T, d *datadriven.TestData, f []string, attempt uint32) pod.Container {
	c := pod.Container{Name: f[0], ID: fmt.Sprintf("%s%d", f[0], attempt), Attempt: attempt,
		SandboxID: "s0", Image: "img", TerminationGrace: 7 * time.Second, CreatedAt: epoch}
	if s := l.observed.Sandbox(); s != nil {
		c.SandboxID = s.ID
	}
	if l.desired != nil {
		c.Hash = l.hash(f[0])
		if s, _ := pod.ContainerSpec(l.desired.Pod, f[0]); s != nil {
			c.PreStop = pod.PreStop(s)
			has := pod.ResourcesOf(s.Resources)
			c.Resources = &has
		}
	}
	c.State = map[string]pod.ContainerState{"running": pod.ContainerRunning, "created": pod.ContainerCreated,
		"unknown": pod.ContainerUnknown, "exited": pod.ContainerExited}[f[2]]
	if c.State == pod.ContainerExited {
		c.Reason, c.FinishedAt = "Completed", l.now
	}
	for _, arg := range f[3:] {
		key, value, _ := strings.Cut(arg, "=")
		switch key {
		case "code":
			code, _ := strconv.Atoi(value)
			c.ExitCode, c.Reason = int32(code), "Error"
		case "reason":
			c.Reason = value
		case "at":
			after, err := time.ParseDuration(value)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			c.FinishedAt = epoch.Add(after)
		case "sandbox":
			c.SandboxID = "s" + value
		case "has":
			has := pod.ResourcesOf(cpuAndMemory(value))
			c.Resources = &has
		case "hash":
			c.Hash = value
		default:
			d.Fatalf(t, "unknown argument %s", arg)
		}
	}
	switch c.State {
	case pod.ContainerRunning:
		c.StartedAt = l.now
	case pod.ContainerExited:
		c.StartedAt = c.FinishedAt
	}
	return c
}

func (l *life) hash(name string) string {
	if c, _ := pod.ContainerSpec(l.desired.Pod, name); c != nil {
		return pod.ContainerHash(c)
	}
	return "none"
}

func (l *life) probe(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	r := pod.ProbeResults{ContainerID: l.observed.Container(name).ID}
	for _, arg := range d.CmdArgs[1:] {
		result := map[string]pod.Result{"success": pod.ResultSuccess, "failure": pod.ResultFailure}[arg.Vals[0]]
		switch arg.Key {
		case "liveness":
			r.Liveness = result
		case "readiness":
			r.Readiness = result
		case "startup":
			r.Startup = result
		default:
			d.Fatalf(t, "unknown probe %s", arg.Key)
		}
	}
	l.probes[name] = r
}

func (l *life) fail(t *testing.T, d *datadriven.TestData) {
	name := d.CmdArgs[0].Key
	f := plan.Failure{Message: "it failed", Pull: d.HasArg("pull"), At: l.now, BackoffMessage: "Back-off pulling image"}
	d.ScanArgs(t, "reason", &f.Reason)
	retry := "10s"
	d.MaybeScanArgs(t, "retry", &retry)
	delay, err := time.ParseDuration(retry)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	f.RetryAt = l.now.Add(delay)
	if name == "sandbox" {
		l.history.Sandbox = f
		return
	}
	c := l.history.Containers[name]
	if f.Reason == plan.ReasonResizeError {
		c.Resize = f
		l.history.Containers[name] = c
		return
	}
	if spec, _ := pod.ContainerSpec(l.desired.Pod, name); spec != nil {
		f.For = spec.Image
	}
	c.Failure = f
	l.history.Containers[name] = c
}

func (l *life) apiStatus(t *testing.T, d *datadriven.TestData) {
	status := v1.PodStatus{Phase: v1.PodRunning}
	for _, arg := range d.CmdArgs {
		if arg.Key == "phase" {
			status.Phase = v1.PodPhase(arg.Vals[0])
			continue
		}
		s := v1.ContainerStatus{Name: arg.Key, ContainerID: "test://old"}
		state, code, exited := strings.Cut(arg.Vals[0], ":")
		switch {
		case exited:
			n, _ := strconv.Atoi(code)
			s.State.Terminated = &v1.ContainerStateTerminated{ExitCode: int32(n), ContainerID: s.ContainerID}
		case state == "running":
			s.State.Running = &v1.ContainerStateRunning{}
		default:
			d.Fatalf(t, "unknown state %s", state)
		}
		if pod.EphemeralContainer(l.desired.Pod, s.Name) != nil {
			status.EphemeralContainerStatuses = append(status.EphemeralContainerStatuses, s)
			continue
		}
		status.ContainerStatuses = append(status.ContainerStatuses, s)
	}
	l.change(func(next *pod.Desired) {
		next.Pod = next.Pod.DeepCopy()
		next.Pod.Status = status
	})
}

// plan decides, notes the decision as the worker does, and prints it.
func (l *life) plan(underway bool) string {
	l.history.See(&l.observed)
	next := plan.Next(plan.Input{Desired: l.desired, SourcesReady: !l.notReady, Observed: l.observed, Probes: l.probes,
		History: l.history, Told: !l.untold, Backoff: plan.DefaultBackoff(), Now: l.now})
	var b strings.Builder
	fmt.Fprintf(&b, "%s", next.Phase)
	if next.Gone {
		b.WriteString(" gone")
	}
	if !next.Wake.IsZero() {
		fmt.Fprintf(&b, " wake=+%s", next.Wake.Sub(epoch))
	}
	b.WriteString("\n")
	clear(l.history.InFlight)
	for _, a := range next.Actions {
		b.WriteString(describe(a))
		l.begin(a, underway)
	}
	for _, name := range slices.Sorted(maps.Keys(next.Waiting)) {
		w := next.Waiting[name]
		if w.Reason == "" {
			fmt.Fprintf(&b, "  %s waits\n", name)
			continue
		}
		fmt.Fprintf(&b, "  %s waits: %s: %s\n", name, w.Reason, w.Message)
	}
	l.history.Phase = max(l.history.Phase, next.Phase)
	if next.Phase != pod.Syncing && l.history.TerminatingSince.IsZero() {
		l.history.TerminatingSince, l.history.End = l.now, next.End
	}
	if l.desired != nil {
		l.printStatus(&b, next)
	}
	return b.String()
}

func describe(a plan.Action) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %s", a.Kind)
	if a.Container != "" {
		fmt.Fprintf(&b, " %s", a.Container)
	}
	if a.ID != "" {
		fmt.Fprintf(&b, " id=%s", a.ID)
	}
	switch a.Kind {
	case plan.RunSandbox, plan.StartContainer:
		fmt.Fprintf(&b, " attempt=%d", a.Attempt)
	case plan.UpdateContainer:
		fmt.Fprintf(&b, " %+v", a.Resources)
	case plan.StopContainer:
		fmt.Fprintf(&b, " grace=%s", a.Grace)
		if a.PreStop > 0 {
			fmt.Fprintf(&b, " pre-stop=%s", a.PreStop)
		}
		fmt.Fprintf(&b, " %q", a.Message)
	}
	b.WriteString("\n")
	return b.String()
}

func (l *life) begin(a plan.Action, underway bool) {
	if underway {
		l.history.InFlight[a.Key()] = a
	}
	c := l.history.Containers[a.Container]
	switch {
	case a.Kind == plan.StartContainer:
		c.Restart, c.Failure = a.Restart, plan.Failure{}
	case a.Kind == plan.StopContainer && a.Replace:
		c.Replace = a.ID
	case a.Kind == plan.UpdateContainer && !underway:
		c.Updated, c.UpdatedTo, c.Resize = a.ID, a.Resources, plan.Failure{}
	case a.Kind == plan.RunPreStop && !underway:
		c.PreStopped = a.ID
	}
	l.history.Containers[a.Container] = c
}

func (l *life) printStatus(b *strings.Builder, next plan.Result) {
	previous := &l.status
	if previous.Phase == "" {
		previous = &l.desired.Pod.Status
	}
	l.status = podstatus.Compute(podstatus.Input{Desired: l.desired, Observed: l.observed, Probes: l.probes,
		Phase: next.Phase, Waiting: next.Waiting, Resizing: next.Resizing, End: next.End, Previous: previous,
		HostIPs: []string{"192.0.2.1"}, RuntimeName: "test", Now: l.now})
	s := &l.status
	fmt.Fprintf(b, "status: %s", s.Phase)
	if s.Reason != "" {
		fmt.Fprintf(b, " reason=%s", s.Reason)
	}
	for _, c := range s.Conditions {
		if c.Status == v1.ConditionTrue && c.Type != v1.PodScheduled {
			fmt.Fprintf(b, " %s", c.Type)
			if c.Type == v1.PodResizePending || c.Type == v1.PodResizeInProgress && c.Reason != "" {
				fmt.Fprintf(b, "(%s)", c.Reason)
			}
		}
	}
	b.WriteString("\n")
	for _, c := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses) {
		fmt.Fprintf(b, "  %s: %s restarts=%d", c.Name, state(c.State), c.RestartCount)
		if c.Ready {
			b.WriteString(" ready")
		}
		if r := c.Resources; r != nil && len(r.Requests) > 0 {
			fmt.Fprintf(b, " %s/%s of %s", r.Requests.Cpu(), r.Limits.Memory(), c.AllocatedResources.Cpu())
		}
		if c.LastTerminationState.Terminated != nil {
			fmt.Fprintf(b, " last=%s", state(c.LastTerminationState))
		}
		b.WriteString("\n")
	}
}

func state(s v1.ContainerState) string {
	switch {
	case s.Running != nil:
		return "running"
	case s.Terminated != nil:
		return fmt.Sprintf("terminated(%s %d)", s.Terminated.Reason, s.Terminated.ExitCode)
	}
	return fmt.Sprintf("waiting(%s)", s.Waiting.Reason)
}
