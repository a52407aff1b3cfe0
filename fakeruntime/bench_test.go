package fakeruntime

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// heapBytes is the bytes in use.
func heapBytes() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkIdleRuntime tells what a node without pods costs in memory.
func BenchmarkIdleRuntime(b *testing.B) {
	const nodes = 2000
	source := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		before := heapBytes()
		all := make([]*Runtime, nodes)
		for i := range all {
			all[i] = New(Options{Rand: source})
			all[i].Subscribe(func(pod.UID) {})
		}
		b.ReportMetric(float64(heapBytes()-before)/nodes, "B/node")
		runtime.KeepAlive(all)
	}
}

// BenchmarkRunningPod tells what a running pod of one container costs in
// memory, without its spec, and in time from RunSandbox to StartContainer.
func BenchmarkRunningPod(b *testing.B) {
	const perNode = 100
	ctx := context.Background()
	before := heapBytes()
	var all []*Runtime
	pods := 0
	p := newPod("p")
	for b.Loop() {
		if pods%perNode == 0 {
			all = append(all, New(Options{Script: always(Behavior{}), Images: []string{"image"}}))
		}
		r := all[len(all)-1]
		image, _ := r.Image(ctx, "image")
		next := *p
		next.UID = types.UID(fmt.Sprint(p.UID, pods))
		pods++
		sandbox, err := r.RunSandbox(ctx, podruntime.SandboxConfig{Pod: &next})
		if err != nil {
			b.Fatal(err)
		}
		id, err := r.CreateContainer(ctx, sandbox, podruntime.ContainerConfig{Pod: p, Container: &p.Spec.Containers[0], ImageID: image.ID})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.StartContainer(ctx, id); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(heapBytes()-before)/float64(pods), "B/pod")
	runtime.KeepAlive(all)
}

// BenchmarkInspectPod is what an agent does after each of its actions.
func BenchmarkInspectPod(b *testing.B) {
	ctx := context.Background()
	r := New(Options{Script: always(Behavior{})})
	p := newPod("p")
	for attempt := range uint32(2) {
		id, err := r.RunSandbox(ctx, podruntime.SandboxConfig{Pod: p, Attempt: attempt})
		if err != nil {
			b.Fatal(err)
		}
		if attempt == 0 {
			if err := r.StopSandbox(ctx, id); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.InspectPod(ctx, pod.UID(p.UID)); err != nil {
			b.Fatal(err)
		}
	}
}
