package worker

import (
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podstatus"
)

// step looks at one pod: what ended, what is to be done, what its status is.
func (w *Worker) step(ctx context.Context, uid pod.UID) {
	st := w.state(uid)
	// Before the look: what an action made that has ended is then seen. The other way
	// round it might be made once more.
	w.record(st, uid)
	observed, ok := w.Observed.Get(uid)
	if !ok {
		// Nothing was observed yet at all.
		return
	}
	st.history.See(&observed)
	d, known := w.Desired.Get(uid)
	if st.stale {
		w.refresh(ctx, st, uid)
		return
	}
	if !known && observed.Empty() && st.history.Removed {
		w.drop(st, uid)
		return
	}
	if known && st.history.Phase != pod.Terminated {
		// Before the results are asked for: an agent that has just started knows
		// some from the pod's status.
		w.Probes.Sync(d.Pod, settled(observed, st.history.InFlight))
	}
	in := plan.Input{SourcesReady: w.Desired.Ready(), Observed: observed, Probes: w.Probes.Results(uid),
		History: &st.history, Backoff: w.config.Backoff, Now: time.Now()}
	if known {
		in.Desired = &d
		in.Told = st.ended && d.Pod.DeletionTimestamp != nil && w.Publisher.Written(uid)
	}
	next := plan.Next(in)
	w.enter(st, next, in.Now)
	w.register(st, in.Desired, next.Phase)
	if known {
		// Before the actions, which have events of their own.
		w.tell(st, &d, next)
		w.tellKilling(st, &d, observed, next)
	}
	for _, a := range next.Actions {
		w.start(ctx, st, uid, task{desired: in.Desired, observed: observed, action: a})
	}
	w.queue.addAt(uid, next.Wake)
	if known {
		w.publish(st, in, next)
	}
}

func (w *Worker) state(uid pod.UID) *state {
	st, ok := w.pods[uid]
	if !ok {
		st = &state{flights: map[string]flight{}, preStops: map[string]*preStop{}}
		st.history.InFlight = map[string]plan.Action{}
		st.history.Containers = map[string]plan.Container{}
		w.pods[uid] = st
	}
	return st
}

// drop forgets a pod that nobody wants and that has nothing left.
func (w *Worker) drop(st *state, uid pod.UID) {
	if len(st.flights) > 0 {
		// The last action's end comes back here.
		return
	}
	w.Probes.Forget(uid)
	w.Publisher.Forget(uid)
	w.Objects.Unregister(uid)
	w.queue.addAt(uid, time.Time{})
	delete(w.pods, uid)
}

// register says which config maps and secrets the pod needs, for as long as
// it is to run.
func (w *Worker) register(st *state, d *pod.Desired, phase pod.Phase) {
	switch {
	case d == nil:
	case phase == pod.Terminated && st.registered != nil:
		st.registered = nil
		w.Objects.Unregister(d.UID())
	case phase != pod.Terminated && st.registered != d.Pod && d.Rejection == nil:
		st.registered = d.Pod
		configMaps, secrets := podenv.References(d.Pod)
		w.Objects.Register(d.UID(), d.Pod.Namespace, configMaps, secrets)
	}
}

// enter notes how far the pod's life has come.
func (w *Worker) enter(st *state, next plan.Result, now time.Time) {
	if next.Phase == pod.Syncing {
		return
	}
	if st.history.TerminatingSince.IsZero() {
		st.history.TerminatingSince = now
	}
	st.history.Phase = max(st.history.Phase, next.Phase)
	if st.history.End == nil {
		st.history.End = next.End
	}
	if next.Phase == pod.Terminated {
		// Nothing is left that a hook could be for.
		for _, h := range st.preStops {
			h.cancel()
		}
	}
	for key, f := range st.flights {
		if st.history.InFlight[key].Makes() {
			f.cancel()
		}
	}
}

// publish computes the pod's status and hands it on, and follows the pod to its
// end.
func (w *Worker) publish(st *state, in plan.Input, next plan.Result) {
	d := in.Desired
	previous := &st.status
	if previous.Phase == "" {
		previous = &d.Pod.Status
	}
	status := podstatus.Compute(podstatus.Input{
		Desired: d, Observed: in.Observed, Probes: in.Probes, Phase: next.Phase,
		Waiting: next.Waiting, Resizing: next.Resizing, End: next.End, Previous: previous,
		HostIPs: w.Host.IPs(), RuntimeName: w.config.RuntimeName,
		RecursiveReadOnly: w.config.RecursiveReadOnly, Now: in.Now,
	})
	st.status = status
	if next.Phase == pod.Terminated && !st.ended {
		st.ended = true
		w.Desired.Ended(d.UID())
		w.Probes.Forget(d.UID())
	}
	switch {
	case next.Gone && !d.Removed.IsZero():
		// A static pod may come back under its UID. It then begins anew, so what is
		// remembered goes first; the last action's end comes back here.
		if len(st.flights) == 0 {
			w.drop(st, d.UID())
			w.Desired.Forget(d.UID())
		}
	case next.Gone && !st.finished:
		st.finished = true
		w.Publisher.Finish(d.Pod, status)
	case !st.finished && d.Removed.IsZero():
		w.Publisher.Set(d.Pod, status)
	}
}

// settled is what was observed, with a container whose start is under way not
// running yet: it is not probed before its postStart hook has ended.
func settled(o pod.Observed, inFlight map[string]plan.Action) pod.Observed {
	for _, a := range inFlight {
		if a.Kind != plan.StartContainer {
			continue
		}
		o.Containers = slices.Clone(o.Containers)
		if c := o.Container(a.Container); c != nil && c.State == pod.ContainerRunning {
			c.State = pod.ContainerCreated
		}
	}
	return o
}

// tell makes events of what is new in a decision.
func (w *Worker) tell(st *state, d *pod.Desired, next plan.Result) {
	if r := d.Rejection; r != nil && !st.rejected {
		st.rejected = true
		w.event(d.Pod, "", v1.EventTypeWarning, r.Reason, r.Message)
	}
	if next.End != nil && !st.endTold {
		st.endTold = true
		eventType := v1.EventTypeNormal
		if next.End.Reason == plan.ReasonPreempting || next.End.Reason == plan.ReasonEvicted {
			eventType = v1.EventTypeWarning
		}
		w.event(d.Pod, "", eventType, next.End.Reason, next.End.Message)
	}
	w.tellResize(st, d, next)
	for name, now := range next.Waiting {
		if st.waiting[name].Reason == now.Reason {
			continue
		}
		switch now.Reason {
		case plan.ReasonCrashLoopBackOff:
			w.event(d.Pod, name, v1.EventTypeWarning, eventBackOff,
				"Back-off restarting failed container "+name+" in pod "+d.Pod.Name+"_"+d.Pod.Namespace+"("+string(d.UID())+")")
		case plan.ReasonImagePullBackOff:
			w.event(d.Pod, name, v1.EventTypeNormal, eventBackOff, backoffMessage(backedOff(d.Pod, name, now.Message)))
			w.event(d.Pod, name, v1.EventTypeWarning, eventFailed, "Error: "+plan.ReasonImagePullBackOff)
		}
	}
	st.waiting = next.Waiting
}

// tellKilling tells of all containers that they are to be stopped when their pod is to
// end, sidecars too, though they wait for their turn.
func (w *Worker) tellKilling(st *state, d *pod.Desired, observed pod.Observed, next plan.Result) {
	if next.Phase == pod.Syncing || st.killed != nil {
		return
	}
	st.killed = map[string]bool{}
	for _, c := range observed.Containers {
		if c.State == pod.ContainerRunning || c.State == pod.ContainerUnknown {
			st.killed[c.ID] = true
			w.event(d.Pod, c.Name, v1.EventTypeNormal, eventKilling, plan.StoppingMessage(c.Name))
		}
	}
}

func (w *Worker) event(p *v1.Pod, container, eventType, reason, message string) {
	w.Event(pod.Event{Pod: p, Container: container, Type: eventType, Reason: reason, Message: message})
}
