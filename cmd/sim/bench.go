package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nodelet/scenarios"
	"nodelet/simcluster"
)

// benchFlags are the flags of sim bench.
type benchFlags struct {
	nodes, pods int
	apiLoad     string
	cpuProfile  string
	idle        time.Duration
	json        bool
	log         logFlags
}

func benchCommand(stdout, stderr io.Writer) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster: time to all running, CPU, memory, cost of an idle node",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return bench(cmd.Context(), &f, stdout, stderr) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.nodes, "nodes", 500, "how many nodes")
	flags.IntVar(&f.pods, "pods", 5000, "how many pods, in Deployments of 500")
	flags.StringVar(&f.apiLoad, "api-load", "faithful", "faithful: each node has its own watches; shared: all are fed from one set")
	flags.DurationVar(&f.idle, "idle", 30*time.Second, "how long to measure the idle cluster")
	flags.StringVar(&f.cpuProfile, "cpuprofile", "", "write a CPU profile, for go tool pprof, to this file")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	f.log.add(flags)
	return cmd
}

// measurement is what sim bench prints.
type measurement struct {
	Nodes   int    `json:"nodes"`
	Pods    int    `json:"pods"`
	APILoad string `json:"apiLoad"`

	ControlPlaneSeconds float64 `json:"controlPlaneSeconds"`
	NodesReadySeconds   float64 `json:"nodesReadySeconds"`
	PodsRunningSeconds  float64 `json:"podsRunningSeconds"`
	PodsPerSecond       float64 `json:"podsPerSecond"`

	// GoroutinesPerNode and HeapPerNode are of idle nodes, with the API server's
	// share of them; bytes.
	GoroutinesPerNode float64 `json:"goroutinesPerNode"`
	HeapPerNode       float64 `json:"heapPerNodeBytes"`
	// IdleCores and BusyCores are CPU seconds a second, with idle nodes and
	// while the pods were started.
	IdleCores  float64 `json:"idleCores"`
	BusyCores  float64 `json:"busyCores"`
	CPUSeconds float64 `json:"cpuSeconds"`
	// PeakRSS is of the whole process, in bytes.
	PeakRSS int64 `json:"peakRSSBytes"`
}

// sample is the process at one moment.
type sample struct {
	at         time.Time
	cpu        time.Duration
	goroutines int
	heap       uint64
}

func takeSample() sample {
	s := sample{at: time.Now(), cpu: cpuTime()}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	s.goroutines, s.heap = runtime.NumGoroutine(), m.HeapAlloc
	return s
}

// cores is how many cores were busy between two samples.
func (s sample) cores(earlier sample) float64 {
	return (s.cpu - earlier.cpu).Seconds() / s.at.Sub(earlier.at).Seconds()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakRSS is the most memory that the process has had, in bytes.
func peakRSS() int64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

func bench(ctx context.Context, f *benchFlags, stdout, stderr io.Writer) error {
	if f.nodes < 1 || f.nodes > 10000 {
		return exit(exitInput, fmt.Errorf("--nodes %d: must be from 1 to 10000", f.nodes))
	}
	if f.pods < 1 {
		return exit(exitInput, fmt.Errorf("--pods %d: must be 1 or more", f.pods))
	}
	s, err := benchScenario(f)
	if err != nil {
		return exit(exitInput, err)
	}
	if f.cpuProfile != "" {
		file, err := os.Create(f.cpuProfile)
		if err != nil {
			return exit(exitInput, fmt.Errorf("--cpuprofile: %w", err))
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return fmt.Errorf("starting the CPU profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	log, closeLog, err := f.log.open(stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	began := time.Now()
	display := newDisplay(stderr, "bench", f.log.verbose)
	defer display.close()
	display.say("starting the control plane")
	cluster, err := simcluster.Start(ctx, simcluster.Options{APILoad: simcluster.APILoad(f.apiLoad), Logger: log})
	if err != nil {
		return startError(ctx, err)
	}
	defer stop(cluster)
	m := measurement{Nodes: f.nodes, Pods: f.pods, APILoad: f.apiLoad, ControlPlaneSeconds: time.Since(began).Seconds()}

	playCtx, cancel := bound(ctx, cluster)
	defer cancel()
	// A sample at the end of each step, and one before the first.
	samples := []sample{takeSample()}
	result, err := scenarios.Play(playCtx, s, stage{cluster}, scenarios.Hooks{Progress: func(u scenarios.Update) {
		display.update(u)
		if u.Done {
			samples = append(samples, takeSample())
		}
	}})
	switch {
	case ctx.Err() != nil:
		return exit(exitFailed, errInterrupted)
	case isClusterFailure(context.Cause(playCtx)):
		return exit(exitCluster, context.Cause(playCtx))
	case err != nil:
		return exit(exitCluster, err)
	case !result.Passed():
		return exit(exitFailed, result.Err())
	}
	m.fill(samples, result)
	display.close()
	return m.print(stdout, f.json)
}

// The steps of the benchmark's scenario.
const (
	stepNodes = iota
	stepIdle
	stepApply
	stepRunning
)

func (m *measurement) fill(samples []sample, result *scenarios.Result) {
	bare, ready, idle, running := samples[0], samples[1+stepNodes], samples[1+stepIdle], samples[1+stepRunning]
	n := float64(m.Nodes)
	m.NodesReadySeconds = result.Steps[stepNodes].Took.Seconds()
	m.PodsRunningSeconds = (result.Steps[stepApply].Took + result.Steps[stepRunning].Took).Seconds()
	m.PodsPerSecond = float64(m.Pods) / m.PodsRunningSeconds
	m.GoroutinesPerNode = float64(idle.goroutines-bare.goroutines) / n
	m.HeapPerNode = (float64(idle.heap) - float64(bare.heap)) / n
	m.IdleCores, m.BusyCores = idle.cores(ready), running.cores(idle)
	m.CPUSeconds = running.cpu.Seconds()
	m.PeakRSS = peakRSS()
}

func (m *measurement) print(w io.Writer, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(m)
	}
	const mib = 1 << 20
	_, err := fmt.Fprintf(w, `%d nodes, %d pods, API load %s, %d cores
  control plane ready        %8.1f s
  all nodes Ready            %8.1f s
  all pods Running           %8.1f s  (%.0f pods/s)
  CPU while pods start       %8.2f cores
  CPU of the idle cluster    %8.2f cores
  CPU in all                 %8.1f s
  peak RSS                   %8.0f MiB
  an idle node               %8.1f goroutines, %.0f KiB of heap
`, m.Nodes, m.Pods, m.APILoad, runtime.NumCPU(), m.ControlPlaneSeconds, m.NodesReadySeconds, m.PodsRunningSeconds,
		m.PodsPerSecond, m.BusyCores, m.IdleCores, m.CPUSeconds, float64(m.PeakRSS)/mib, m.GoroutinesPerNode, m.HeapPerNode/1024)
	return err
}

// podsPerDeployment is how many replicas one Deployment of the benchmark has.
const podsPerDeployment = 500

// benchScenario is what the benchmark plays.
func benchScenario(f *benchFlags) (*scenarios.Scenario, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `apiVersion: %s
kind: Scenario
name: bench
time: real
timeout: 1h
apiLoad: %s
nodes:
- {name: node, count: %d}
steps:
- {name: idle, wait: %s}
- name: apply
  apply:
    objects:
`, scenarios.APIVersion, f.apiLoad, f.nodes, f.idle)
	for i, left := 0, f.pods; left > 0; i, left = i+1, left-podsPerDeployment {
		fmt.Fprintf(&b, `    - apiVersion: apps/v1
      kind: Deployment
      metadata: {name: bench-%d}
      spec:
        replicas: %d
        selector: {matchLabels: {app: bench-%d}}
        template:
          metadata: {labels: {app: bench-%d, bench: pods}}
          spec:
            containers:
            - name: main
              image: example.com/bench:1
              resources: {requests: {cpu: 10m, memory: 16Mi}}
`, i, min(left, podsPerDeployment), i, i)
	}
	fmt.Fprintf(&b, `- name: running
  expect:
    pods: {selector: bench=pods, running: %d}
    within: 30m
`, f.pods)
	all, err := scenarios.Decode("bench", b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the benchmark's flags: %w", err)
	}
	return all[0], nil
}
