// Package probe runs the liveness, readiness and startup probes of a node's
// containers and is the only writer of their results.
//
// All probes of a node are in one heap with one timer, run by one goroutine;
// a probe costs a goroutine only while it is under way, and so many at most.
// A result that changes marks the pod dirty and does nothing else.
//
// What network probes reach is behind Target, in target.go; network.go has the
// one for a real network.
package probe

import (
	"container/heap"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// maxProbes bounds the probes under way; later ones wait their turn.
const maxProbes = 64

// Deps is what a Prober works with. All are needed.
type Deps struct {
	Target Target
	Exec   Execer
	// Rand is used by the Prober alone.
	Rand *rand.Rand
	// Changed marks a pod dirty; Event tells its owner. Neither waits.
	Changed func(pod.UID)
	Event   func(pod.Event)
	Log     *slog.Logger
}

// Prober probes a node's containers. All methods may be called concurrently.
type Prober struct {
	Deps
	slots chan struct{}

	mu   sync.Mutex
	pods map[pod.UID]*podProbes
	due  dueHeap
	wake chan struct{}
}

// podProbes are the probes of one pod's running containers.
type podProbes struct {
	probes map[key]*probe
	// results is replaced, never changed, so that readers need no lock.
	results pod.Probes
}

type key struct {
	container string
	kind      pod.ProbeKind
}

// probe is one probe of one incarnation of a container.
type probe struct {
	uid     pod.UID
	key     key
	request Request
	started time.Time
	// at is when it is due; pos its place in the heap, -1 while it is not in it.
	at  time.Time
	pos int
	// last is the newest result, run how often in a row it has come.
	last bool
	run  int32
	// dropped says that the container or the pod is gone.
	dropped bool
}

// New returns a Prober; nothing is probed before Run.
func New(deps Deps) *Prober {
	return &Prober{Deps: deps, slots: make(chan struct{}, maxProbes), pods: map[pod.UID]*podProbes{}, wake: make(chan struct{}, 1)}
}

// Results returns the results of a pod's probes. The map must not be changed.
func (p *Prober) Results(uid pod.UID) pod.Probes {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pp := p.pods[uid]; pp != nil {
		return pp.results
	}
	return nil
}

// Forget ends the probes of a pod.
func (p *Prober) Forget(uid pod.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pp := p.pods[uid]; pp != nil {
		for _, pr := range pp.probes {
			p.drop(pr)
		}
		delete(p.pods, uid)
	}
}

// Sync has the running containers of a pod probed as its spec says, and no
// others. Results of incarnations that run on are kept.
func (p *Prober) Sync(object *v1.Pod, observed pod.Observed) {
	if !anyProbe(object) {
		return
	}
	uid := pod.UID(object.UID)
	p.mu.Lock()
	defer p.mu.Unlock()
	pp := p.pods[uid]
	if pp == nil {
		pp = &podProbes{probes: map[key]*probe{}}
		p.pods[uid] = pp
	}
	ip := ""
	if s := observed.Sandbox(); s != nil && len(s.IPs) > 0 {
		ip = s.IPs[0]
	}
	for _, list := range [][]v1.Container{object.Spec.InitContainers, object.Spec.Containers} {
		for i := range list {
			cur := observed.Container(list[i].Name)
			if cur != nil && cur.State != pod.ContainerRunning {
				cur = nil
			}
			p.syncContainer(pp, Request{Pod: object, Container: &list[i], PodIP: ip}, cur)
		}
	}
}

func anyProbe(object *v1.Pod) bool {
	for _, list := range [][]v1.Container{object.Spec.InitContainers, object.Spec.Containers} {
		for i := range list {
			if c := &list[i]; c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil {
				return true
			}
		}
	}
	return false
}

// syncContainer adds and drops the probes of one container; cur is its running
// incarnation or nil. The lock is held.
func (p *Prober) syncContainer(pp *podProbes, r Request, cur *pod.Container) {
	for _, kind := range [...]pod.ProbeKind{pod.Startup, pod.Liveness, pod.Readiness} {
		k := key{r.Container.Name, kind}
		old := pp.probes[k]
		spec := specOf(r.Container, kind)
		if old != nil && (spec == nil || cur == nil || old.request.ContainerID != cur.ID) {
			p.drop(old)
			delete(pp.probes, k)
			old = nil
		}
		if spec == nil || cur == nil {
			continue
		}
		next := r
		next.ContainerID, next.Kind, next.Probe = cur.ID, kind, spec
		if old != nil {
			old.request = next
			continue
		}
		pr := &probe{uid: pod.UID(r.Pod.UID), key: k, request: next, started: cur.StartedAt, pos: -1}
		pp.probes[k] = pr
		// After a restart of the agent not all probes come at once.
		p.schedule(pr, later(cur.StartedAt.Add(seconds(spec.InitialDelaySeconds)), time.Now()).Add(p.jitter(spec, cur)))
		pp.set(k, cur.ID, pod.ResultUnknown, "")
	}
}

func specOf(c *v1.Container, kind pod.ProbeKind) *v1.Probe {
	switch kind {
	case pod.Liveness:
		return c.LivenessProbe
	case pod.Readiness:
		return c.ReadinessProbe
	}
	return c.StartupProbe
}

// jitter spreads the first probes of containers that ran before the agent did.
func (p *Prober) jitter(spec *v1.Probe, cur *pod.Container) time.Duration {
	if time.Since(cur.StartedAt) < seconds(spec.PeriodSeconds)+time.Second {
		return 0
	}
	return time.Duration(p.Rand.Int64N(int64(seconds(max(spec.PeriodSeconds, 1)))))
}

func seconds(s int32) time.Duration { return time.Duration(s) * time.Second }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// set records a result in a new map.
func (pp *podProbes) set(k key, id string, result pod.Result, message string) {
	next := make(pod.Probes, len(pp.results)+1)
	for name, r := range pp.results {
		next[name] = r
	}
	r := next.Of(k.container, id)
	switch k.kind {
	case pod.Liveness:
		r.Liveness = result
	case pod.Readiness:
		r.Readiness = result
	default:
		r.Startup = result
	}
	if result == pod.ResultFailure {
		r.Message = message
	}
	next[k.container] = r
	pp.results = next
}

func (p *Prober) drop(pr *probe) {
	pr.dropped = true
	if pr.pos >= 0 {
		heap.Remove(&p.due, pr.pos)
	}
}

// schedule has a probe made at a time. The lock is held.
func (p *Prober) schedule(pr *probe, at time.Time) {
	pr.at = at
	heap.Push(&p.due, pr)
	if pr.pos == 0 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// Run probes until ctx ends, and returns when the probes under way have ended.
func (p *Prober) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		due, next := p.takeDue(time.Now())
		for _, pr := range due {
			select {
			case p.slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				defer func() { <-p.slots }()
				p.probe(ctx, pr)
			})
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// takeDue returns the probes whose time has come, and when the next one's will.
func (p *Prober) takeDue(now time.Time) (due []*probe, next time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.due) > 0 && !p.due[0].at.After(now) {
		due = append(due, heap.Pop(&p.due).(*probe))
	}
	if len(p.due) > 0 {
		next = p.due[0].at
	}
	return due, next
}

// probe makes one probe and records what came of it.
func (p *Prober) probe(ctx context.Context, pr *probe) {
	p.mu.Lock()
	if pr.dropped {
		p.mu.Unlock()
		return
	}
	r := pr.request
	if pr.key.kind != pod.Startup && r.Container.StartupProbe != nil && p.result(pr, pod.Startup) != pod.ResultSuccess {
		// Held back until the startup probe has passed.
		p.schedule(pr, pr.at.Add(period(r.Probe)))
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()

	timeout, cancel := context.WithTimeout(ctx, max(seconds(r.Probe.TimeoutSeconds), time.Second))
	ok, output, err := p.ask(timeout, r)
	cancel()
	if ctx.Err() != nil {
		return
	}
	p.record(pr, r, ok, output, err)
}

func period(spec *v1.Probe) time.Duration { return max(seconds(spec.PeriodSeconds), time.Second) }

// result is the recorded result of another probe of the same incarnation. The
// lock is held.
func (p *Prober) result(pr *probe, kind pod.ProbeKind) pod.Result {
	r := p.pods[pr.uid].results.Of(pr.key.container, pr.request.ContainerID)
	if kind == pod.Startup {
		return r.Startup
	}
	return r.Readiness
}

func (p *Prober) ask(ctx context.Context, r Request) (bool, string, error) {
	if r.Probe.Exec == nil {
		return p.Target.Probe(ctx, r)
	}
	code, output, err := p.Exec.ProbeExec(ctx, r.ContainerID, r.Probe.Exec.Command)
	if ctx.Err() != nil {
		return false, fmt.Sprintf("command timed out: %q timed out after %s", r.Probe.Exec.Command,
			max(seconds(r.Probe.TimeoutSeconds), time.Second)), nil
	}
	return err == nil && code == 0, output, err
}

// record counts a result against the probe's thresholds and schedules the next.
func (p *Prober) record(pr *probe, r Request, ok bool, output string, err error) {
	p.mu.Lock()
	changed := false
	if pp := p.pods[pr.uid]; pp != nil && !pr.dropped {
		if err == nil {
			changed = pp.count(pr, ok, output)
		}
		// A startup probe that has passed is over; one that failed has its
		// container killed.
		if pr.key.kind != pod.Startup || p.result(pr, pod.Startup) == pod.ResultUnknown {
			p.schedule(pr, later(pr.at.Add(period(r.Probe)), time.Now()))
		}
	}
	p.mu.Unlock()
	switch {
	case err != nil:
		p.Event(pod.Event{Pod: r.Pod, Container: r.Container.Name, Type: v1.EventTypeWarning, Reason: "Unhealthy",
			Message: fmt.Sprintf("%s probe errored and resulted in unknown state: %v", r.Kind, err)})
	case !ok:
		p.Event(pod.Event{Pod: r.Pod, Container: r.Container.Name, Type: v1.EventTypeWarning, Reason: "Unhealthy",
			Message: fmt.Sprintf("%s probe failed: %s", r.Kind, output)})
	}
	if changed {
		p.Changed(pr.uid)
	}
}

// count takes in one result and reports whether the probe's own has changed.
func (pp *podProbes) count(pr *probe, ok bool, output string) bool {
	if ok != pr.last {
		pr.run = 0
	}
	pr.last, pr.run = ok, pr.run+1
	spec := pr.request.Probe
	result := pod.ResultSuccess
	if !ok {
		result = pod.ResultFailure
	}
	if ok && pr.run < max(spec.SuccessThreshold, 1) || !ok && pr.run < max(spec.FailureThreshold, 1) {
		return false
	}
	old := pp.results.Of(pr.key.container, pr.request.ContainerID)
	was := map[pod.ProbeKind]pod.Result{pod.Liveness: old.Liveness, pod.Readiness: old.Readiness, pod.Startup: old.Startup}[pr.key.kind]
	if was == result {
		return false
	}
	pp.set(pr.key, pr.request.ContainerID, result, output)
	return true
}
