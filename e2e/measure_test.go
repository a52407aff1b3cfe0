package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/dockertest"
)

// BenchmarkPodStart measures, side by side, how long it takes from a pod's
// creation until the API server shows it Running, and from the first call of
// the engine until the same two containers run, made by bare calls: for one at a
// time and for 30 at once, on an image that is there. Metrics are in ms. What
// processor time it took of the agent, the control plane and dockerd stands
// beside it, without what containerd, its shims and runc take.
//
//	go test ./e2e -run '^$' -bench PodStart -benchtime 20x
func BenchmarkPodStart(b *testing.B) {
	c := start(b)
	for _, count := range []int{1, 30} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var pods, bare []time.Duration
			ofAgent, ofControlPlane, ofEngine := &usage{pid: c.agent.command.Process.Pid},
				&usage{pid: c.sim.command.Process.Pid}, &usage{pid: engineProcess(b, c)}
			alone := &usage{pid: ofEngine.pid}
			// The first one loads the pause image and finds out what the engine may do.
			c.startPods(b, 1)
			for b.Loop() {
				pods = append(pods, c.startPods(b, count, ofAgent, ofControlPlane, ofEngine)...)
				bare = append(bare, startBare(b, c.engine, count, alone)...)
			}
			report(b, "pod", pods)
			report(b, "docker", bare)
			perPod := func(u *usage) float64 { return 1000 * u.sum / float64(len(pods)) }
			b.ReportMetric(perPod(ofAgent), "agent-cpu-ms/pod")
			b.ReportMetric(perPod(ofControlPlane), "control-plane-cpu-ms/pod")
			b.ReportMetric(perPod(ofEngine), "dockerd-cpu-ms/pod")
			b.ReportMetric(perPod(alone), "docker-dockerd-cpu-ms/pod")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func report(b *testing.B, name string, all []time.Duration) {
	slices.Sort(all)
	at := func(p int) float64 { return float64(all[min(len(all)-1, len(all)*p/100)].Milliseconds()) }
	b.ReportMetric(at(50), name+"-p50-ms")
	b.ReportMetric(at(99), name+"-p99-ms")
}

// startPods starts pods at once and returns how long each took.
func (c *cluster) startPods(b *testing.B, count int, of ...*usage) []time.Duration {
	b.Helper()
	ns := c.namespace(b, "bench")
	defer metered(b, of...)()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	watch, err := c.kube.CoreV1().Pods(ns).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer watch.Stop()
	zero := int64(0)
	var mu sync.Mutex
	began := map[string]time.Time{}
	var made sync.WaitGroup
	for i := range count {
		made.Go(func() {
			p := &v1.Pod{}
			p.Name = fmt.Sprintf("p%d", i)
			p.Spec.NodeName, p.Spec.TerminationGracePeriodSeconds = nodeName, &zero
			p.Spec.Containers = []v1.Container{{Name: "c", Image: testImage, ImagePullPolicy: v1.PullIfNotPresent}}
			mu.Lock()
			began[p.Name] = time.Now()
			mu.Unlock()
			if _, err := c.kube.CoreV1().Pods(ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
				b.Error(err)
			}
		})
	}
	made.Wait()
	took := map[string]time.Duration{}
	for event := range watch.ResultChan() {
		p, ok := event.Object.(*v1.Pod)
		if !ok || p.Status.Phase != v1.PodRunning || took[p.Name] != 0 {
			continue
		}
		took[p.Name] = time.Since(began[p.Name])
		if len(took) == count {
			break
		}
	}
	if len(took) != count {
		b.Fatalf("%d of %d pods run", len(took), count)
	}
	// The node has room for 110, and there may be more to come.
	err = c.kube.CoreV1().Pods(ns).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &zero}, metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var all []time.Duration
	for _, d := range took {
		all = append(all, d)
	}
	return all
}

// startBare starts pairs of containers at once by the engine's calls alone.
func startBare(b *testing.B, engine *dockertest.Engine, count int, of *usage) []time.Duration {
	b.Helper()
	stop := metered(b, of)
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	all := make([]time.Duration, count)
	var started sync.WaitGroup
	for i := range count {
		started.Go(func() {
			began := time.Now()
			if err := engine.StartPair(ctx, fmt.Sprintf("bare%d", i), testImage); err != nil {
				b.Error(err)
			}
			all[i] = time.Since(began)
		})
	}
	started.Wait()
	stop()
	for i := range count {
		if err := engine.RemovePair(ctx, fmt.Sprintf("bare%d", i)); err != nil {
			b.Error(err)
		}
	}
	return all
}

// BenchmarkIdleNode measures what 50 pods at rest cost, for NODELET_E2E_IDLE
// (1m): the agent's and the engine's CPU in percent of a core, the agent's
// memory, and the calls a minute; then the same of the engine without an agent.
//
//	NODELET_E2E_IDLE=5m go test ./e2e -run '^$' -bench IdleNode -benchtime 1x -timeout 30m
func BenchmarkIdleNode(b *testing.B) {
	c := start(b)
	window := time.Minute
	if s := os.Getenv("NODELET_E2E_IDLE"); s != "" {
		var err error
		if window, err = time.ParseDuration(s); err != nil {
			b.Fatal(err)
		}
	}
	proxy := c.newProxy(b)
	c.agent.kill()
	c.startAgent(b, "--docker-endpoint", proxy.endpoint)
	ns := c.namespace(b, "idle")
	const count = 50
	c.kubectl(b, "", "create", "deployment", "-n", ns, "idle", "--image", testImage, "--replicas", strconv.Itoa(count))
	c.eventually(b, "all pods run", 3*time.Minute, func(ctx context.Context) error {
		pods, err := c.pods(ctx, ns, "app=idle")
		ready := 0
		for i := range pods {
			if isReady(&pods[i]) {
				ready++
			}
		}
		if err == nil && ready != count {
			err = fmt.Errorf("%d", ready)
		}
		return err
	})
	time.Sleep(20 * time.Second)
	engine := engineProcess(b, c)
	for b.Loop() {
		proxy.take()
		api, agentCPU, engineCPU := c.apiRequests(b), cpu(b, c.agent.command.Process.Pid), cpu(b, engine)
		time.Sleep(window)
		minutes, percent := window.Minutes(), 100/window.Seconds()
		b.ReportMetric((cpu(b, c.agent.command.Process.Pid)-agentCPU)*percent, "agent-cpu-%")
		b.ReportMetric((cpu(b, engine)-engineCPU)*percent, "dockerd-cpu-%")
		b.ReportMetric(rss(b, c.agent.command.Process.Pid), "agent-rss-MiB")
		b.ReportMetric((c.apiRequests(b)-api)/minutes, "api-requests/min")
		calls := proxy.take()
		total := 0
		for _, n := range calls {
			total += n
		}
		b.ReportMetric(float64(total)/minutes, "docker-calls/min")
		b.Logf("calls of the engine: %v", calls)
		c.agent.kill()
		engineCPU = cpu(b, engine)
		time.Sleep(window)
		b.ReportMetric((cpu(b, engine)-engineCPU)*percent, "dockerd-alone-cpu-%")
		b.ReportMetric(0, "ns/op")
		c.startAgent(b)
	}
}

// apiRequests is how many requests nodes have made of the API server.
func (c *cluster) apiRequests(b *testing.B) (n float64) {
	b.Helper()
	metrics := c.kubectl(b, "", "get", "--raw", "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(metrics))
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range families["apiserver_flowcontrol_dispatched_requests_total"].GetMetric() {
		for _, label := range m.GetLabel() {
			if label.GetName() == "flow_schema" && strings.HasPrefix(label.GetValue(), "system-node") {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

func engineProcess(b *testing.B, c *cluster) int {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(c.engine.Dir, "docker.pid"))
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		b.Fatal(err)
	}
	return pid
}

// usage is processor time that a process took while metered, in seconds.
type usage struct {
	pid int
	sum float64
}

// metered counts what processes take until stop is called.
func metered(b *testing.B, of ...*usage) (stop func()) {
	b.Helper()
	for _, u := range of {
		u.sum -= cpu(b, u.pid)
	}
	return func() {
		for _, u := range of {
			u.sum += cpu(b, u.pid)
		}
	}
}

// cpu is the processor time of a process, in seconds.
func cpu(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(data[strings.LastIndex(string(data), ")")+2:]))
	const user, system, hertz = 11, 12, 100
	u, _ := strconv.ParseFloat(fields[user], 64)
	s, _ := strconv.ParseFloat(fields[system], 64)
	return (u + s) / hertz
}

// rss is the memory of a process in MiB.
func rss(b *testing.B, pid int) float64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kib, _ := strconv.ParseFloat(f[1], 64)
			return kib / 1024
		}
	}
	return 0
}

// BenchmarkPodStartAmongCrashLoops measures how long a pod takes to run, before and
// while 100 others on the node crash and are backed off. Metrics are in ms. It takes
// some minutes, most of them for the crash loops to begin.
//
//	go test ./e2e -run '^$' -bench AmongCrashLoops -benchtime 1x -timeout 20m
func BenchmarkPodStartAmongCrashLoops(b *testing.B) {
	const loops, starts = 100, 20
	c := start(b)
	c.startPods(b, 1)
	for b.Loop() {
		var alone, among []time.Duration
		for range starts {
			alone = append(alone, c.startPods(b, 1)...)
		}
		ns := c.namespace(b, "crash")
		for i := range loops {
			name := fmt.Sprintf("crash-%d", i)
			c.apply(b, ns, strings.Replace(pod(name, fmt.Sprintf(`"nodeName":%q,`, nodeName), `"args":["exit","1"]`), `"app":"`+name, `"app":"crash`, 1))
		}
		c.eventually(b, "all have crashed five times", 10*time.Minute, func(ctx context.Context) error {
			pods, err := c.pods(ctx, ns, "app=crash")
			looping := 0
			for i := range pods {
				if restarts(pods[i:i+1]) >= 4 {
					looping++
				}
			}
			if err == nil && looping != loops {
				err = fmt.Errorf("%d have", looping)
			}
			return err
		})
		for range starts {
			among = append(among, c.startPods(b, 1)...)
		}
		report(b, "alone", alone)
		report(b, "among", among)
	}
	b.ReportMetric(0, "ns/op")
}
