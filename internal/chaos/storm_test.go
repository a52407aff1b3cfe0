package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/volume"
	"nodelet/fakeruntime"
)

// crashLoops is how many pods of a node crash all the time.
const crashLoops = 100

// TestStartAmongCrashLoops: among many crash loops, which are tried again as often as
// can be configured, other pods start as fast as without them. In virtual time, what
// is left of a difference is waiting: for a turn, a call, a limit.
func TestStartAmongCrashLoops(t *testing.T) {
	const bound = 100 * time.Millisecond
	var alone, among []time.Duration
	synctest.Test(t, func(t *testing.T) { alone = starts(t, 0, 30) })
	synctest.Test(t, func(t *testing.T) {
		among = starts(t, crashLoops, 30)
		// Events that the limit of events has held up are still written.
		wait(t.Context(), time.Minute)
	})
	t.Logf("alone p50 %v, max %v; among %d crash loops p50 %v, max %v", median(alone), slices.Max(alone), crashLoops, median(among), slices.Max(among))
	if slices.Max(among) > slices.Max(alone)+bound {
		t.Errorf("among %d crash loops a pod took %v to start, %v without", crashLoops, slices.Max(among), slices.Max(alone))
	}
}

// BenchmarkStartAmongCrashLoops is the same in real time, side by side: what the
// agent has to do for the crash loops counts as well.
func BenchmarkStartAmongCrashLoops(b *testing.B) {
	for _, loops := range []int{0, crashLoops} {
		b.Run(fmt.Sprint(loops), func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				all = append(all, starts(b, loops, 20)...)
			}
			b.ReportMetric(float64(median(all).Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(slices.Max(all).Microseconds())/1000, "max-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(all []time.Duration) time.Duration { return slices.Sorted(slices.Values(all))[len(all)/2] }

// starts returns how long it takes until the API server is told that a container
// runs of pods that come one after the other, among so many crash loops.
func starts(t testing.TB, loops, count int) (all []time.Duration) {
	r := rand.New(rand.NewPCG(1, 1))
	runtime := fakeruntime.New(fakeruntime.Options{Rand: r, Images: []string{Image}, Script: crashing})
	w := NewWorld(runtime, runtime)
	w.Rand, w.Store, w.RootDir, w.Log = r, volume.NewMemory(), "/nonexistent", slog.New(slog.DiscardHandler)
	w.Server.SetLossy()
	if err := w.StartAgent(); err != nil {
		t.Fatal(err)
	}
	defer w.KillAgent()
	for i := range loops {
		w.Server.Create(simple(fmt.Sprintf("crash-%d", i)))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if loops > 0 {
		// Their back-offs are as long as they get.
		for i := range loops {
			w.Server.Await(ctx, metav1.NamespaceDefault, fmt.Sprintf("crash-%d", i), func(p *v1.Pod) bool {
				return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 2
			})
		}
	}
	for i := range count {
		// At another point of their rounds each time.
		wait(ctx, 137*time.Millisecond)
		name, began := fmt.Sprintf("other-%d", i), time.Now()
		w.Server.Create(simple(name))
		ran := w.Server.Await(ctx, metav1.NamespaceDefault, name, func(p *v1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Running != nil
		})
		if !ran {
			t.Fatalf("%s does not start", name)
		}
		all = append(all, time.Since(began))
		w.Server.Delete(metav1.NamespaceDefault, name, 1)
	}
	return all
}

func simple(name string) *v1.Pod {
	grace := int64(1)
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.PodSpec{RestartPolicy: v1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: &grace, DNSPolicy: v1.DNSDefault,
		Containers: []v1.Container{{Name: "main", Image: Image, ImagePullPolicy: v1.PullIfNotPresent}}}}
}

// crashing has pods crash that are called so. Nothing that the runtime does takes
// more or less time by chance.
func crashing(p *v1.Pod, _ *v1.Container, _ uint32) fakeruntime.Behavior {
	step := fakeruntime.Latency{Min: 50 * time.Millisecond}
	return fakeruntime.Behavior{Sandbox: step, Create: step, Start: step,
		Exits: strings.HasPrefix(p.Name, "crash-"), ExitAfter: fakeruntime.Latency{Min: 200 * time.Millisecond}, ExitCode: 1}
}
