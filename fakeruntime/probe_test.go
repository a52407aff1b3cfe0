package fakeruntime

import (
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
)

func TestProbesSeeTheScript(t *testing.T) {
	b := Behavior{ReadyAfter: Latency{Min: 10 * second}, UnreadyAfter: 20 * second, UnreadyFor: 5 * second, FailLivenessAfter: 30 * second}
	play(t, b, func(w *world) {
		p := newPod("p")
		command := func(kind pod.ProbeKind) []string { return []string{"check", string(kind)} }
		exec := func(kind pod.ProbeKind) *v1.Probe {
			return &v1.Probe{ProbeHandler: v1.ProbeHandler{Exec: &v1.ExecAction{Command: command(kind)}}}
		}
		c := &p.Spec.Containers[0]
		c.LivenessProbe, c.ReadinessProbe, c.StartupProbe = exec(pod.Liveness), exec(pod.Readiness), exec(pod.Startup)
		id := w.start(p)
		started := time.Now()
		for _, test := range []struct {
			age                      time.Duration
			startup, readiness, live bool
		}{
			{0, false, false, true},
			{10*second - 1, false, false, true},
			{10 * second, true, true, true},
			{20*second - 1, true, true, true},
			{20 * second, true, false, true},
			{25 * second, true, true, true},
			{30 * second, true, true, false},
			{time.Hour, true, true, false},
		} {
			time.Sleep(time.Until(started.Add(test.age)))
			for kind, want := range map[pod.ProbeKind]bool{pod.Startup: test.startup, pod.Readiness: test.readiness, pod.Liveness: test.live} {
				got, output, err := w.Probe(w.Context(), probe.Request{Pod: p, Container: c, ContainerID: id, Kind: kind, Probe: &v1.Probe{}})
				if err != nil || got != want || (output == "") != want {
					t.Errorf("after %v %s: %v, %q, %v", test.age, kind, got, output, err)
				}
				code, err := w.Exec(w.Context(), id, podruntime.ExecOptions{Command: command(kind)})
				if err != nil || (code == 0) != want {
					t.Errorf("after %v %s by a command: %d, %v", test.age, kind, code, err)
				}
			}
		}
	})
}

func TestProbeOfNothing(t *testing.T) {
	play(t, Behavior{}, func(w *world) {
		p := newPod("p")
		request := probe.Request{Pod: p, Container: &p.Spec.Containers[0], ContainerID: "none", PodIP: "10.1.1.1", Kind: pod.Liveness, Probe: &v1.Probe{}}
		if ok, output, err := w.Probe(w.Context(), request); ok || err != nil || !strings.Contains(output, "refused") {
			t.Errorf("what is not there: %v, %q, %v", ok, output, err)
		}
		request.ContainerID = w.start(p)
		if ok, _, err := w.Probe(w.Context(), request); !ok || err != nil {
			t.Errorf("what runs: %v, %v", ok, err)
		}
		w.ok(w.StopContainer(w.Context(), request.ContainerID, 0))
		request.Probe = &v1.Probe{ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{}}}
		if ok, _, err := w.Probe(w.Context(), request); ok || err != nil {
			t.Errorf("what has ended: %v, %v", ok, err)
		}
		w.PowerOff()
		if _, _, err := w.Probe(w.Context(), request); err == nil {
			t.Error("a machine without power was probed")
		}
	})
}

func TestUsage(t *testing.T) {
	b := Behavior{CPU: resource.MustParse("250m"), Memory: resource.MustParse("64Mi")}
	play(t, b, func(w *world) {
		p, other := newPod("p"), newPod("other")
		id := w.start(p)
		w.ok(w.StopContainer(w.Context(), w.start(other), 0))
		time.Sleep(40 * second)
		all := w.Usage()
		if len(all) != 1 || all[0].UID != pod.UID(p.UID) || len(all[0].Containers) != 1 {
			t.Fatalf("%+v", all)
		}
		want := ContainerUsage{Name: "c", ID: id, StartedAt: time.Now().Add(-40 * second),
			CPUNanoCores: 250e6, CPUCoreNanoSeconds: 10e9, MemoryBytes: 64 << 20}
		if got := all[0].Containers[0]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}
