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
	"k8s.io/apimachinery/pkg/types"
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

// FileReader is a Cluster whose pods' volumes can be looked into.
type FileReader interface {
	// ReadVolume returns a file of a volume of a pod on a node, or fs.ErrNotExist.
	ReadVolume(node string, uid types.UID, volume, path string) (string, error)
}

// Update tells how a scenario gets on.
type Update struct {
	// Step counts from 1; 0 is the start of the nodes.
	Step, Steps int
	Name        string
	// Detail is what was done in particular; it may be empty.
	Detail  string
	Elapsed time.Duration
	// Done says that the step has ended, Err how.
	Done bool
	Err  error
	// Nodes and Pods are counts of what there is.
	Nodes, NodesReady                    int
	Pods, PodsReady, PodsRunning, Failed int
}

// Hooks are called while a scenario is played; each may be nil.
type Hooks struct {
	// Progress is called from one goroutine at a time and must not block.
	Progress func(Update)
	// Observe is told of every change of a pod or a node: before is nil for a new
	// one, now for one that is gone. It must not block.
	Observe func(before, now any)
	// Before is called before each step, counted from 1, and may wait.
	Before func(ctx context.Context, step int, name string) error
}

// Runner plays one scenario on one cluster.
type Runner struct {
	scenario *Scenario
	cluster  Cluster
	hooks    Hooks
	clients
	view  *view
	began time.Time

	// mu guards killed, the nodes that are killed now.
	mu     sync.Mutex
	killed []string
	// detail is what there is to say of the step that is being done.
	detail string
}

// clients reach the cluster.
type clients struct {
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.RESTMapper
}

// errTimeout says that a scenario took too long.
var errTimeout = errors.New("the scenario's timeout")

// StepResult is how a step ended.
type StepResult struct {
	Name string
	// Detail is what was done in particular, such as which node was killed.
	Detail string
	Took   time.Duration
	// Err is nil for a step that passed.
	Err error
	// Skipped says that it was not come to.
	Skipped bool
}

// Result is how a scenario ended.
type Result struct {
	Scenario *Scenario
	Steps    []StepResult
	// Took is by the scenario's clock; Wall is what it took in virtual time by
	// everybody else's, 0 in real time.
	Took, Wall time.Duration
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
// that it could not be played at all. When ctx ends, the step that is being done
// fails with its cause.
func Play(ctx context.Context, s *Scenario, cluster Cluster, hooks Hooks) (*Result, error) {
	clients, err := connect(cluster.RESTConfig())
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	return play(ctx, s, cluster, clients, hooks)
}

func connect(config *rest.Config) (c clients, err error) {
	typed := rest.CopyConfig(config)
	typed.ContentType = "application/vnd.kubernetes.protobuf"
	typed.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	if c.client, err = kubernetes.NewForConfig(typed); err != nil {
		return c, err
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return c, err
	}
	c.mapper = restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(c.client.Discovery()))
	return c, nil
}

func play(ctx context.Context, s *Scenario, cluster Cluster, clients clients, hooks Hooks) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.Timeout.Duration,
		fmt.Errorf("%w of %v is over", errTimeout, s.Timeout.Duration))
	defer cancel()
	r := &Runner{scenario: s, cluster: cluster, clients: clients, hooks: hooks, began: time.Now()}
	// The view lives longer than the timeout: a verdict tells what is in it.
	viewCtx, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	var err error
	r.view, err = newView(ctx, viewCtx, clients, hooks.Observe)
	if err != nil {
		stopWatching()
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	defer r.view.watches.Wait()
	defer stopWatching()
	cluster.SetScript(Script(s.Behaviors))

	result := &Result{Scenario: s}
	r.playSteps(ctx, result)
	result.Took = time.Since(r.began)
	if checker, ok := cluster.(SafetyChecker); ok {
		result.Violations = checker.Violations()
	}
	return result, nil
}

// playSteps does the steps until one fails.
func (r *Runner) playSteps(ctx context.Context, result *Result) {
	steps := r.steps()
	failed := false
	for i, step := range steps {
		if failed {
			result.Steps = append(result.Steps, StepResult{Name: step.name, Skipped: true})
			continue
		}
		r.detail = ""
		stop := r.report(i, len(steps)-1, step.name)
		began := time.Now()
		var err error
		if r.hooks.Before != nil && i > 0 {
			err = r.hooks.Before(ctx, i, step.name)
		}
		if err == nil {
			err = step.do(ctx)
		}
		if err != nil && ctx.Err() != nil && !isExpectation(err) {
			err = context.Cause(ctx)
		}
		stop(err)
		result.Steps = append(result.Steps, StepResult{Name: step.name, Detail: r.detail, Took: time.Since(began), Err: err})
		failed = err != nil
	}
}

// progressEvery is how often there is news of a step that goes on.
func progressEvery(mode TimeMode) time.Duration {
	if mode == VirtualTime {
		// A minute passes in no time.
		return time.Minute
	}
	return 500 * time.Millisecond
}

// report tells of a step while it goes on, and at its end.
func (r *Runner) report(i, n int, name string) (stop func(error)) {
	if r.hooks.Progress == nil {
		return func(error) {}
	}
	tell := func(done bool, err error) {
		u := r.count()
		if done {
			u.Detail = r.detail
		}
		u.Step, u.Steps, u.Name, u.Done, u.Err = i, n, name, done, err
		r.hooks.Progress(u)
	}
	tell(false, nil)
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		ticker := time.NewTicker(progressEvery(r.scenario.Time))
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
