// Package probe runs the liveness, readiness and startup probes of a node's
// containers and is the only writer of their results.
//
// All probes of a node are in one heap with one timer, run by one goroutine;
// a probe costs a goroutine only while it is under way, and so many at most.
// A result that changes marks the pod dirty and does nothing else.
//
// probe.go keeps the set of probes, run.go makes them when they are due. What
// network probes reach is behind Target, in target.go; network.go has the one
// for a real network.
package probe

import (
	"container/heap"
	"log/slog"
	"math/rand/v2"
	"strings"
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
	// held says that it waits for the container's startup probe to pass; it is
	// then neither in the heap nor under way.
	held bool
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
// others. Results of incarnations that run on are kept. Once the pod is being
// deleted only readiness is probed: nothing would be restarted any more.
//
// It is cheap for a pod of which nothing has changed, and is to be called
// whenever something may have.
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
			if !probed(&list[i]) {
				continue
			}
			cur := observed.Container(list[i].Name)
			if cur != nil && cur.State == pod.ContainerUnknown {
				// It may well run: what is known of it stands.
				continue
			}
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
			if probed(&list[i]) {
				return true
			}
		}
	}
	return false
}

func probed(c *v1.Container) bool {
	return c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil
}

// syncContainer adds and drops the probes of one container; cur is its running
// incarnation or nil. The lock is held.
func (p *Prober) syncContainer(pp *podProbes, r Request, cur *pod.Container) {
	for _, kind := range [...]pod.ProbeKind{pod.Startup, pod.Liveness, pod.Readiness} {
		k := key{r.Container.Name, kind}
		spec := specOf(r.Container, kind)
		old := pp.probes[k]
		wanted := spec != nil && cur != nil && (kind == pod.Readiness || r.Pod.DeletionTimestamp == nil)
		if old != nil && (!wanted || old.request.ContainerID != cur.ID) {
			p.drop(old)
			delete(pp.probes, k)
			old = nil
		}
		if !wanted {
			continue
		}
		r.ContainerID, r.Kind, r.Probe = cur.ID, kind, spec
		if old != nil {
			old.request = r
			continue
		}
		p.add(pp, k, r, cur)
	}
}

// add starts a probe of a container that runs.
func (p *Prober) add(pp *podProbes, k key, r Request, cur *pod.Container) {
	pr := &probe{uid: pod.UID(r.Pod.UID), key: k, request: r, started: cur.StartedAt, pos: -1}
	pp.probes[k] = pr
	known := published(r.Pod, k, cur.ID)
	pp.set(k, cur.ID, known, "")
	if k.kind == pod.Startup && known == pod.ResultSuccess {
		// It is not probed again once it has passed.
		return
	}
	if k.kind != pod.Startup && r.Container.StartupProbe != nil &&
		pp.results.Of(k.container, cur.ID).Startup != pod.ResultSuccess {
		pr.held = true
		return
	}
	p.schedule(pr, pr.first().Add(p.jitter(r.Probe, cur)))
}

// published is the result of a probe that the pod's status tells of this
// incarnation: what an agent before this one has found, or this one before.
func published(p *v1.Pod, k key, id string) pod.Result {
	for _, list := range [][]v1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for i := range list {
			s := &list[i]
			_, known, _ := strings.Cut(s.ContainerID, "://")
			if s.Name != k.container || known != id || s.State.Running == nil {
				continue
			}
			if k.kind == pod.Readiness && s.Ready || k.kind == pod.Startup && s.Started != nil && *s.Started {
				return pod.ResultSuccess
			}
		}
	}
	return pod.ResultUnknown
}

// first is when a probe is due for the first time: not before its delay.
func (pr *probe) first() time.Time {
	return later(pr.started.Add(seconds(pr.request.Probe.InitialDelaySeconds)), time.Now())
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
