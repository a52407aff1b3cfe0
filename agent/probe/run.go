package probe

import (
	"container/heap"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

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
	r, dropped := pr.request, pr.dropped
	p.mu.Unlock()
	if dropped {
		return
	}
	var ok bool
	var output string
	var err error
	for range attempts {
		ok, output, err = p.ask(ctx, r)
		if ctx.Err() != nil {
			return
		}
		if err == nil || ok {
			break
		}
	}
	p.record(pr, r, ok, output, err)
}

// attempts is how often a probe that cannot be made is tried at once.
const attempts = 3

func period(spec *v1.Probe) time.Duration { return max(seconds(spec.PeriodSeconds), time.Second) }

func timeout(spec *v1.Probe) time.Duration { return max(seconds(spec.TimeoutSeconds), time.Second) }

// ask makes a probe once, within its timeout.
func (p *Prober) ask(ctx context.Context, r Request) (ok bool, output string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout(r.Probe))
	defer cancel()
	if r.Probe.Exec == nil {
		ok, output, err = p.Target.Probe(ctx, r)
		if !ok && err != nil && ctx.Err() != nil {
			return false, err.Error(), nil
		}
		return ok, output, err
	}
	command := expand(r.Probe.Exec.Command, r.Container.Env)
	code, output, err := p.Exec.ProbeExec(ctx, r.ContainerID, command)
	if ctx.Err() != nil {
		return false, fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout(r.Probe)), nil
	}
	return err == nil && code == 0, output, err
}

// record counts a result against the probe's thresholds, schedules what comes
// next and tells who is to know.
func (p *Prober) record(pr *probe, r Request, ok bool, output string, err error) {
	p.mu.Lock()
	if pr.dropped {
		// The container was stopped meanwhile; it owes nobody an answer.
		p.mu.Unlock()
		return
	}
	pp := p.pods[pr.uid]
	changed := false
	if err == nil || ok {
		changed = pp.count(pr, ok, output)
	}
	result := pp.result(pr)
	switch {
	case pr.key.kind == pod.Startup && result == pod.ResultSuccess:
		p.release(pp, pr.key.container)
	case pr.key.kind != pod.Readiness && result == pod.ResultFailure:
		// The container will be stopped. It is left alone until a new
		// incarnation runs.
	default:
		p.schedule(pr, later(pr.at.Add(period(r.Probe)), time.Now()))
	}
	p.mu.Unlock()
	p.tell(r, ok, output, err)
	if changed {
		p.Changed(pr.uid)
	}
}

// release starts the probes that waited for a container to have started. The
// lock is held.
func (p *Prober) release(pp *podProbes, container string) {
	for _, kind := range [...]pod.ProbeKind{pod.Liveness, pod.Readiness} {
		if pr := pp.probes[key{container, kind}]; pr != nil && pr.held {
			pr.held = false
			p.schedule(pr, pr.first())
		}
	}
}

// tell makes an event of a probe that did not simply succeed.
func (p *Prober) tell(r Request, ok bool, output string, err error) {
	e := pod.Event{Pod: r.Pod, Container: r.Container.Name, Type: v1.EventTypeWarning, Reason: "Unhealthy"}
	switch {
	case ok && err != nil:
		e.Reason, e.Message = "ProbeWarning", fmt.Sprintf("%s probe warning: %v", r.Kind, err)
	case err != nil:
		e.Message = fmt.Sprintf("%s probe errored and resulted in unknown state: %v", r.Kind, err)
	case !ok:
		e.Message = fmt.Sprintf("%s probe failed: %s", r.Kind, output)
	default:
		return
	}
	p.Event(e)
}

// count takes in one result and reports whether the probe's own has changed.
func (pp *podProbes) count(pr *probe, ok bool, output string) bool {
	if ok != pr.last {
		pr.run = 0
	}
	pr.last, pr.run = ok, pr.run+1
	spec := pr.request.Probe
	result, threshold := pod.ResultSuccess, spec.SuccessThreshold
	if !ok {
		result, threshold = pod.ResultFailure, spec.FailureThreshold
	}
	if pr.run < threshold || pp.result(pr) == result {
		return false
	}
	pp.set(pr.key, pr.request.ContainerID, result, output)
	return true
}

// result is what a probe has said so far.
func (pp *podProbes) result(pr *probe) pod.Result {
	r := pp.results.Of(pr.key.container, pr.request.ContainerID)
	switch pr.key.kind {
	case pod.Liveness:
		return r.Liveness
	case pod.Readiness:
		return r.Readiness
	}
	return r.Startup
}
