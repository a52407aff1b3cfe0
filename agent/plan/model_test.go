package plan_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podstatus"
)

// model is a pod in a world, with an agent that carries plans out as the worker
// does: actions take a while, may fail or do half of what they should, and what
// was cancelled may still happen later.
type model struct {
	t      testing.TB
	choose *choices
	world  *world
	// desired is nil once nobody wants the pod any more. published is the status
	// that the API server has.
	desired   *pod.Desired
	published v1.PodStatus
	agent     *agentModel
	// late are the starts whose agent did not wait for their end.
	late []*task
	// ends says that, once the world is calm, containers end well where that is
	// the end of them.
	ends bool
}

// agentModel is what is lost with an agent.
type agentModel struct {
	ready    bool
	observed pod.Observed
	probes   pod.Probes
	history  plan.History
	tasks    map[string]*task
	stale    bool
	status   *v1.PodStatus
	last     plan.Result
}

// task is an action under way.
type task struct {
	plan.Action
	hash string
	// spec is the container's as it was when the action was planned; nil for none.
	spec *v1.Container
	// replaces is the incarnation that a start is to replace whatever the policy.
	replaces string
	// created is the container, once it is made.
	created   string
	cancelled bool
	// age counts the steps since nobody waits for it any more.
	age int
}

func newModel(t testing.TB, choose *choices) *model {
	m := &model{t: t, choose: choose, world: &world{now: epoch, ended: map[string]pod.Container{}}}
	m.desired = &pod.Desired{Pod: choosePod(choose), Source: pod.SourceAPI, FirstSeen: epoch}
	if choose.oneIn(8) {
		m.desired.Source = pod.SourceFile
	}
	m.ends = choose.oneIn(2)
	m.newAgent()
	return m
}

func (m *model) newAgent() {
	if m.agent != nil {
		for _, k := range m.taskKeys() {
			if task := m.agent.tasks[k]; task.Makes() {
				m.late = append(m.late, task)
			}
		}
	}
	m.agent = &agentModel{ready: true, observed: m.world.snapshot(), probes: pod.Probes{}, tasks: map[string]*task{},
		history: plan.History{InFlight: map[string]plan.Action{}, Containers: map[string]plan.Container{}}}
	if m.desired != nil {
		m.hear()
	}
}

// hear has the agent see the status that the API server has.
func (m *model) hear() {
	next := *m.desired
	next.Pod = next.Pod.DeepCopy()
	next.Pod.Status = *m.published.DeepCopy()
	m.desired = &next
}

// choosePod chooses a valid pod.
func choosePod(c *choices) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "p", UID: "u1", Generation: 1}}
	p.Spec.RestartPolicy = []v1.RestartPolicy{v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever}[c.n(3)]
	for i := range []int{0, 1, 0, 2, 3}[c.n(5)] {
		p.Spec.InitContainers = append(p.Spec.InitContainers, chooseContainer(c, fmt.Sprintf("i%d", i), true))
	}
	for i := range []int{1, 2, 1, 3}[c.n(4)] {
		p.Spec.Containers = append(p.Spec.Containers, chooseContainer(c, fmt.Sprintf("c%d", i), false))
	}
	if c.oneIn(6) {
		seconds := int64(c.n(256)+1) * 3
		p.Spec.ActiveDeadlineSeconds = &seconds
	}
	if c.oneIn(3) {
		grace := int64(c.n(64))
		p.Spec.TerminationGracePeriodSeconds = &grace
	}
	if c.oneIn(8) {
		p.Spec.ReadinessGates = []v1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	}
	return p
}

func chooseContainer(c *choices, name string, init bool) v1.Container {
	result := v1.Container{Name: name, Image: "img0"}
	kind := c.n(16)
	if init && kind%2 == 1 {
		always := v1.ContainerRestartPolicyAlways
		result.RestartPolicy = &always
	} else if kind >= 12 {
		policy := []v1.ContainerRestartPolicy{v1.ContainerRestartPolicyOnFailure, v1.ContainerRestartPolicyNever}[c.n(2)]
		result.RestartPolicy = &policy
		if c.oneIn(2) {
			result.RestartPolicyRules = []v1.ContainerRestartRule{{Action: v1.ContainerRestartRuleActionRestart,
				ExitCodes: &v1.ContainerRestartRuleOnExitCodes{Operator: v1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{42}}}}
		}
	}
	if init && !pod.IsSidecar(&result) {
		return result
	}
	if c.oneIn(4) {
		result.Lifecycle = &v1.Lifecycle{PreStop: &v1.LifecycleHandler{Sleep: &v1.SleepAction{Seconds: 1}}}
	}
	if c.oneIn(4) {
		result.Resources = resources(c.n(3))
		if c.oneIn(2) {
			result.ResizePolicy = []v1.ContainerResizePolicy{{ResourceName: v1.ResourceCPU, RestartPolicy: v1.RestartContainer}}
		}
	}
	if probes := c.n(8); probes > 3 {
		if probes&1 > 0 {
			result.LivenessProbe = &v1.Probe{}
		}
		if probes&2 > 0 {
			result.StartupProbe = &v1.Probe{}
		}
		result.ReadinessProbe = &v1.Probe{}
	}
	return result
}

// resources are the nth that a container may ask for.
func resources(n int) v1.ResourceRequirements {
	return v1.ResourceRequirements{Requests: v1.ResourceList{v1.ResourceCPU: *resource.NewMilliQuantity(int64(n+1)*100, resource.DecimalSI)}}
}

// step is one look of the worker at the pod, and then some of what it began.
func (m *model) step() {
	if a := m.agent; !a.stale {
		m.look()
	} else if m.choose.n(3) == 0 {
		a.observed, a.stale = m.world.snapshot(), false
	}
	for _, key := range m.taskKeys() {
		if task, ok := m.agent.tasks[key]; ok {
			m.progress(key, task)
		}
	}
	for i := len(m.late) - 1; i >= 0; i-- {
		task := m.late[i]
		if task.age++; task.age > 1 || m.choose.n(2) == 0 {
			m.late = append(m.late[:i], m.late[i+1:]...)
			_ = m.make(task)
		}
	}
	if m.world.fault != nil {
		m.fatalf("%v", m.world.fault)
	}
}

func (m *model) look() {
	a := m.agent
	in := plan.Input{Desired: m.desired, SourcesReady: a.ready, Observed: a.observed, Probes: a.probes,
		History: &a.history, Told: m.told(), Backoff: plan.DefaultBackoff(), Now: m.world.now}
	a.history.See(&a.observed)
	next := plan.Next(in)
	m.checkPlan(next)
	a.last = next
	if next.Phase != pod.Syncing {
		m.enter(next)
	}
	for _, action := range next.Actions {
		m.begin(action)
	}
	if m.desired != nil {
		m.computeStatus(next)
	}
}

// told reports whether the API server has the agent's last word on the pod.
func (m *model) told() bool {
	return m.agent.last.Phase == pod.Terminated && m.agent.status != nil && reflect.DeepEqual(*m.agent.status, m.published)
}

// enter notes how far the pod's life has come, as the worker does.
func (m *model) enter(next plan.Result) {
	h := &m.agent.history
	if h.TerminatingSince.IsZero() {
		h.TerminatingSince = m.world.now
	}
	h.Phase = max(h.Phase, next.Phase)
	if h.End == nil {
		h.End = next.End
	}
	for _, task := range m.agent.tasks {
		task.cancelled = task.cancelled || task.Makes()
	}
}

func (m *model) begin(action plan.Action) {
	a := m.agent
	t := &task{Action: action, hash: m.hash(action.Container),
		replaces: a.history.Containers[action.Container].Replace}
	if m.desired != nil {
		t.spec, _ = pod.ContainerSpec(m.desired.Pod, action.Container)
	}
	a.tasks[action.Key()] = t
	a.history.InFlight[action.Key()] = action
	c := a.history.Containers[action.Container]
	switch {
	case action.Kind == plan.StartContainer:
		c.Restart = action.Restart
	case action.Kind == plan.StopContainer && action.Replace:
		c.Replace = action.ID
	default:
		return
	}
	a.history.Containers[action.Container] = c
}

func (m *model) hash(name string) string {
	if m.desired == nil {
		return "gone"
	}
	return (&life{desired: m.desired}).hash(name)
}

func (m *model) computeStatus(next plan.Result) {
	a := m.agent
	previous := a.status
	if previous == nil {
		previous = &m.desired.Pod.Status
	}
	status := podstatus.Compute(podstatus.Input{Desired: m.desired, Observed: a.observed, Probes: a.probes, Phase: next.Phase,
		Waiting: next.Waiting, Resizing: next.Resizing, End: next.End, Previous: previous, RuntimeName: "test", Now: m.world.now})
	m.checkStatus(previous, &status)
	a.status = &status
}

// progress lets an action under way come further, or end.
func (m *model) progress(key string, t *task) {
	choice := m.choose.n(8)
	if t.cancelled {
		// It ends soon; the runtime may have taken it up, and do it later.
		if choice >= 4 {
			m.late = append(m.late, t)
		}
		m.finish(key, t, nil, false)
		return
	}
	switch {
	case choice == 7:
		// It goes on.
	case choice == 6 && t.Makes():
		m.finish(key, t, m.fail(t), false)
	case choice == 5 && t.Kind == plan.StartContainer && t.created == "":
		t.created, _ = m.create(t)
		m.agent.observed = m.world.snapshot()
	case t.Makes():
		if err := m.make(t); err != nil {
			m.finish(key, t, &plan.Failure{Reason: "RunContainerError", Message: err.Error()}, false)
			return
		}
		m.finish(key, t, nil, true)
	case choice == 6 && t.Kind == plan.UpdateContainer:
		m.finish(key, t, &plan.Failure{Reason: plan.ReasonResizeError, Message: "no"}, false)
	case choice == 6:
		m.finish(key, t, nil, false)
	default:
		m.world.end(t.Action)
		m.finish(key, t, nil, true)
	}
}

// make does what an action that makes something says.
func (m *model) make(t *task) error {
	switch t.Kind {
	case plan.RunSandbox:
		m.world.runSandbox(t.Attempt)
	case plan.StartContainer:
		id, err := m.create(t)
		if err != nil {
			return err
		}
		m.checkRestart(t, id)
		return m.world.start(id)
	}
	return nil
}

// create makes a container, with what its labels and its cgroup say.
func (m *model) create(t *task) (id string, err error) {
	if id, err = m.world.create(t.ID, t.Container, t.Attempt, t.hash); err != nil || t.spec == nil {
		return id, err
	}
	c, has := m.world.container(id), pod.ResourcesOf(t.spec.Resources)
	c.PreStop, c.Resources = pod.PreStop(t.spec), &has
	return id, nil
}

// fail is how an action that makes something may fail.
func (m *model) fail(t *task) *plan.Failure {
	switch t.Kind {
	case plan.RunSandbox:
		return &plan.Failure{Reason: "FailedCreatePodSandBox", Message: "no"}
	case plan.MountVolumes:
		return &plan.Failure{Reason: "FailedMount", Message: "no"}
	}
	switch m.choose.n(3) {
	case 0:
		return &plan.Failure{Reason: plan.ReasonErrImagePull, Message: "no", Pull: true, BackoffMessage: "later"}
	case 1:
		// The start fails, and leaves a container that ended.
		if id, err := m.create(t); err == nil {
			c := m.world.container(id)
			c.State, c.FinishedAt, c.ExitCode, c.Reason = pod.ContainerExited, m.world.now, 128, "ContainerCannotRun"
			m.world.ended[c.Name] = *c
		}
		return &plan.Failure{Reason: "RunContainerError", Message: "no"}
	}
	return &plan.Failure{Reason: "CreateContainerConfigError", Message: "no"}
}

// finish is the end of an action: the pod is looked at, and the outcome noted.
func (m *model) finish(key string, t *task, failure *plan.Failure, done bool) {
	a, h, now := m.agent, &m.agent.history, m.world.now
	delete(a.tasks, key)
	delete(h.InFlight, key)
	if m.choose.oneIn(16) {
		a.stale = true
	} else {
		a.observed = m.world.snapshot()
	}
	at := func(delay time.Duration) plan.Failure {
		if failure == nil {
			return plan.Failure{}
		}
		f := *failure
		f.At, f.RetryAt = now, now.Add(delay)
		return f
	}
	switch t.Kind {
	case plan.MountVolumes:
		h.Mount = at(10 * time.Second)
		h.Mounted = h.Mounted || done
	case plan.UnmountVolumes:
		h.Unmounted = h.Unmounted || done
	case plan.RemoveDirectory:
		h.Removed = h.Removed || done
	case plan.RunSandbox:
		h.Sandbox = at(10 * time.Second)
	case plan.RunPreStop:
		c := h.Containers[t.Container]
		c.PreStopped = t.ID
		h.Containers[t.Container] = c
	case plan.UpdateContainer:
		c := h.Containers[t.Container]
		c.Resize = at(10 * time.Second)
		if done {
			c.Updated, c.UpdatedTo = t.ID, t.Resources
		}
		h.Containers[t.Container] = c
	case plan.StartContainer:
		c := h.Containers[t.Container]
		delay := 10 * time.Second
		if failure != nil && failure.Pull {
			limits := plan.DefaultBackoff()
			c.Pull = c.Pull.WhenFor(t.Image).Next("", now, limits.PullInitial, limits.PullMax)
			delay = c.Pull.Delay
		}
		c.Failure = at(delay)
		c.Failure.For = t.Image
		h.Containers[t.Container] = c
	}
}
