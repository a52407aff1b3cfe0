package scenarios

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"

	"nodelet/fakeruntime"
)

// Cluster is what a scenario is played on.
type Cluster interface {
	RESTConfig() *rest.Config
	AddNodes(ctx context.Context, g NodeGroup) error
	// KillNode takes a node away: fault is power, agent or network.
	KillNode(name, fault string) error
	RestoreNode(name string) error
	SetScript(script fakeruntime.Script)
}

// SafetyChecker is a Cluster that watches over what agents must never do.
type SafetyChecker interface {
	Violations() []string
}

// Update tells how a scenario gets on.
type Update struct {
	// Step counts from 1; 0 is the start of the nodes.
	Step, Steps int
	Name        string
	Elapsed     time.Duration
	// Done says that the step has ended, Err how.
	Done bool
	Err  error
	// Nodes and Pods are counts of what there is.
	Nodes, NodesReady                    int
	Pods, PodsReady, PodsRunning, Failed int
}

// Runner plays one scenario on one cluster.
type Runner struct {
	scenario *Scenario
	cluster  Cluster
	progress func(Update)
	client   kubernetes.Interface
	dynamic  dynamic.Interface
	mapper   meta.RESTMapper
	view     *view
	began    time.Time

	mu     sync.Mutex
	killed []string
}

// StepResult is how a step ended.
type StepResult struct {
	Name string
	Took time.Duration
	// Err is nil for a step that passed.
	Err error
	// Skipped says that it was not come to.
	Skipped bool
}

// Result is how a scenario ended.
type Result struct {
	Scenario *Scenario
	Steps    []StepResult
	Took     time.Duration
	// Violations are what agents did that they must never do.
	Violations []string
}

// Passed reports whether everything was as expected.
func (r *Result) Passed() bool { return r.Err() == nil }

// Err is the first thing that was not as expected, or nil.
func (r *Result) Err() error {
	for _, s := range r.Steps {
		if s.Err != nil {
			return s.Err
		}
	}
	if len(r.Violations) > 0 {
		return fmt.Errorf("an agent broke a rule: %s", r.Violations[0])
	}
	return nil
}

// Play plays a scenario to its end and returns how it ended. The error says
// that it could not be played at all. progress is called from one goroutine at
// a time and must not block; it may be nil.
func Play(ctx context.Context, s *Scenario, cluster Cluster, progress func(Update)) (*Result, error) {
	if progress == nil {
		progress = func(Update) {}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout.Duration,
		fmt.Errorf("%w of %v is over", errTimeout, s.Timeout.Duration))
	defer cancel()
	r := &Runner{scenario: s, cluster: cluster, progress: progress, began: time.Now()}
	watchCtx, stopWatching := context.WithCancel(ctx)
	if err := r.connect(watchCtx, cluster.RESTConfig()); err != nil {
		stopWatching()
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	defer r.view.watches.Wait()
	defer stopWatching()
	cluster.SetScript(Script(s.Behaviors))

	result := &Result{Scenario: s}
	r.play(ctx, result)
	result.Took = time.Since(r.began)
	if checker, ok := cluster.(SafetyChecker); ok {
		result.Violations = checker.Violations()
	}
	return result, nil
}

func (r *Runner) connect(ctx context.Context, config *rest.Config) error {
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	var err error
	if r.client, err = kubernetes.NewForConfig(typed); err != nil {
		return err
	}
	if r.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	r.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(r.client.Discovery()))
	r.view, err = newView(ctx, r.client, r.dynamic, r.mapper)
	return err
}

// play does the steps until one fails.
func (r *Runner) play(ctx context.Context, result *Result) {
	steps := r.steps()
	failed := false
	for i, step := range steps {
		if failed {
			result.Steps = append(result.Steps, StepResult{Name: step.name, Skipped: true})
			continue
		}
		stop := r.report(i, len(steps)-1, step.name)
		began := time.Now()
		err := step.do(ctx)
		if err != nil && ctx.Err() != nil && !isExpectation(err) {
			err = context.Cause(ctx)
		}
		stop(err)
		result.Steps = append(result.Steps, StepResult{Name: step.name, Took: time.Since(began), Err: err})
		failed = err != nil
	}
}

// report tells of a step while it goes on, and at its end.
func (r *Runner) report(i, n int, name string) (stop func(error)) {
	tell := func(done bool, err error) {
		u := r.count()
		u.Step, u.Steps, u.Name, u.Done, u.Err = i, n, name, done, err
		r.progress(u)
	}
	tell(false, nil)
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(500 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				tell(false, nil)
			}
		}
	})
	return func(err error) {
		close(ended)
		telling.Wait()
		tell(true, err)
	}
}

// count counts what there is.
func (r *Runner) count() Update {
	u := Update{Elapsed: time.Since(r.began)}
	for _, o := range r.view.nodes.List() {
		u.Nodes++
		if nodeReady(o.(*v1.Node)) {
			u.NodesReady++
		}
	}
	for _, o := range r.view.pods.List() {
		p := o.(*v1.Pod)
		u.Pods++
		if isReady(p) {
			u.PodsReady++
		}
		switch p.Status.Phase {
		case v1.PodRunning:
			u.PodsRunning++
		case v1.PodFailed:
			u.Failed++
		}
	}
	return u
}

func lower(s string) string { return strings.ToLower(s) }
