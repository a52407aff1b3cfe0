package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Course says when what happens.
type Course struct {
	Seed uint64
	// Spread is the time within which the pods come.
	Spread time.Duration
	// Kills are when the agent is killed, and Down for how long at most.
	Kills []time.Duration
	Down  time.Duration
	// Healed is when faults have healed, so that an agent is to be there from
	// then on; Length is when everything must have come to its end.
	Healed, Length time.Duration
}

// moment is something that the pods' owner does.
type moment struct {
	at time.Duration
	do func()
}

// Play plays lives and returns their stories, in order.
func Play(w *World, lives []*Life, c Course) ([]*Story, error) {
	r := rand.New(rand.NewPCG(c.Seed, 2))
	pods := make([]*v1.Pod, len(lives))
	changing, stop := context.WithCancel(context.Background())
	var changes sync.WaitGroup
	defer changes.Wait()
	defer stop()
	var script []moment
	for i, l := range lives {
		came := time.Duration(r.Int64N(int64(c.Spread) + 1))
		create := func() {
			p := l.Pod.DeepCopy()
			p.UID = types.UID(fmt.Sprintf("%s-%d", p.Name, len(script)))
			if pods[i] != nil {
				p.UID += "-again"
			}
			pods[i] = w.Server.Create(p)
			w.Trace.Add(p.Name, "created: %s", l)
			uid := pods[i].UID
			changes.Go(func() { w.change(changing, l, uid) })
		}
		script = append(script, moment{came, create})
		at := came + l.End.After
		for _, grace := range l.End.Grace {
			script = append(script, moment{at, func() {
				w.Trace.Add(l.Pod.Name, "deleted with grace %d", grace)
				w.Server.Delete(metav1.NamespaceDefault, l.Pod.Name, grace)
			}})
			at += 3 * time.Second
		}
		if l.End.Again {
			script = append(script, moment{at - 2*time.Second, create})
		}
	}
	slices.SortStableFunc(script, func(a, b moment) int { return cmp.Compare(a.at, b.at) })

	if err := w.play(script, r, c); err != nil {
		return nil, err
	}
	stories := make([]*Story, len(lives))
	for i, p := range pods {
		now := w.Server.Get(metav1.NamespaceDefault, p.Name)
		gone := now == nil || now.UID != p.UID
		stories[i] = Tell(p, w.Server.History(p.UID), gone)
	}
	w.findLeft()
	return stories, nil
}

// play has everything happen in its time.
func (w *World) play(script []moment, r *rand.Rand, c Course) error {
	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	kept := make(chan error, 1)
	go func() { kept <- w.keepAgent(ctx, r, c, began) }()
	defer func() { cancel(); w.KillAgent() }()
	for _, m := range append(script, moment{c.Length, func() {}}) {
		wait(ctx, time.Until(began.Add(m.at)))
		m.do()
	}
	cancel()
	if err := <-kept; err != nil {
		return fmt.Errorf("keeping an agent: %w", err)
	}
	return nil
}

// keepAgent starts agents and kills them until ctx ends.
func (w *World) keepAgent(ctx context.Context, r *rand.Rand, c Course, began time.Time) error {
	kills := c.Kills
	for {
		if err := w.StartAgent(); err != nil {
			return err
		}
		next := time.Duration(1<<63 - 1)
		if len(kills) > 0 {
			next = max(time.Until(began.Add(kills[0])), 0)
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
			kills = kills[1:]
		case <-w.Deaths():
			timer.Stop()
		}
		w.KillAgent()
		// A death that came at the same moment was this agent's.
		select {
		case <-w.Deaths():
		default:
		}
		down := time.Duration(r.Int64N(int64(c.Down) + 1))
		wait(ctx, max(min(down, time.Until(began.Add(c.Healed))), 0))
	}
}

// findLeft notes what the runtime has of pods that are gone.
func (w *World) findLeft() {
	all, err := w.Runtime.ListPods(context.Background())
	if err != nil {
		w.guard.fault("", "listing what is left: %v", err)
		return
	}
	for i := range all {
		o := &all[i]
		if p := w.Server.Get(o.Namespace, o.Name); p == nil || string(p.UID) != string(o.UID) {
			w.guard.fault(o.Name, "it is gone, but the runtime has %+v", *o)
		}
	}
}
