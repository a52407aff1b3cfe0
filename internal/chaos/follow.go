package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// Rest waits until a pod, by its number, is at rest, and reports whether it was
// before ctx ended.
type Rest func(ctx context.Context, i int, p *v1.Pod) bool

// Follow plays lives, all at once, by what is seen of them, and returns their
// stories in order: a pod is deleted when it is at rest, or in its last run, and not
// at a given time, so that a slow machine plays a life as a fast one does. The agent
// is killed, and started again, at the course's times.
func Follow(ctx context.Context, w *World, lives []*Life, c Course, rest Rest) ([]*Story, error) {
	keeping, stop := context.WithCancel(ctx)
	defer stop()
	kept := make(chan error, 1)
	go func() { kept <- w.keepAgent(keeping, rand.New(rand.NewPCG(c.Seed, 2)), c, time.Now()) }()
	defer w.KillAgent()
	stories := make([]*Story, len(lives))
	var all sync.WaitGroup
	for i, l := range lives {
		all.Go(func() {
			wait(ctx, c.Spread*time.Duration(i)/time.Duration(len(lives)))
			stories[i] = w.follow(ctx, i, l, rest)
		})
	}
	all.Wait()
	stop()
	if err := <-kept; err != nil {
		return nil, fmt.Errorf("keeping an agent: %w", err)
	}
	w.findLeft()
	return stories, nil
}

// follow plays one life.
func (w *World) follow(ctx context.Context, i int, l *Life, rest Rest) *Story {
	p := l.Pod.DeepCopy()
	p.UID = types.UID(fmt.Sprintf("%s-uid", p.Name))
	p = w.Server.Create(p)
	w.Trace.Add(p.Name, "created: %s", l)
	tell := func() *Story {
		return Tell(p, w.Server.History(p.UID), w.Server.Get(p.Namespace, p.Name) == nil)
	}
	w.change(ctx, l, p.UID)
	if len(l.End.Grace) > 0 && !l.End.AtRest {
		w.awaitLastRun(ctx, l)
	} else if !rest(ctx, i, p) {
		w.Trace.Add(p.Name, "it does not come to rest")
		return tell()
	}
	atRest := tell()
	for n, grace := range l.End.Grace {
		if n > 0 {
			wait(ctx, time.Second)
		}
		w.Trace.Add(p.Name, "deleted with grace %d", grace)
		w.Server.Delete(metav1.NamespaceDefault, p.Name, grace)
	}
	if len(l.End.Grace) == 0 {
		return atRest
	}
	gone := w.Server.Await(ctx, p.Namespace, p.Name, func(p *v1.Pod) bool { return p == nil })
	for gone && ctx.Err() == nil {
		// A pod that is deleted by force is gone before its containers are.
		if o, err := w.Runtime.InspectPod(ctx, pod.UID(p.UID)); err == nil && o.Empty() {
			break
		}
		wait(ctx, 100*time.Millisecond)
	}
	story := tell()
	story.Forced = slices.Contains(l.End.Grace, 0)
	if l.End.AtRest {
		story.Rest = atRest.Last
	}
	return story
}

// awaitLastRun waits until the pod's first container runs for the last time, or the
// pod has ended.
func (w *World) awaitLastRun(ctx context.Context, l *Life) (now *v1.Pod) {
	w.Server.Await(ctx, metav1.NamespaceDefault, l.Pod.Name, func(p *v1.Pod) bool {
		now = p
		return p == nil || pod.IsTerminal(p.Status.Phase) || inRun(p, int32(len(l.Runs["c0"])-1))
	})
	return now
}

// change changes a pod, if its life says so, once it runs for the last time, unless
// it is deleted meanwhile.
func (w *World) change(ctx context.Context, l *Life, uid types.UID) {
	if len(l.Changes) == 0 {
		return
	}
	if p := w.awaitLastRun(ctx, l); p == nil || pod.IsTerminal(p.Status.Phase) || ctx.Err() != nil {
		return
	}
	for _, change := range l.Changes {
		w.Server.Change(metav1.NamespaceDefault, l.Pod.Name, func(p *v1.Pod) {
			if p.UID == uid && p.DeletionTimestamp == nil {
				w.Trace.Add(p.Name, "changed: %s", change)
				l.Change(p, change)
			}
		})
	}
}

// inRun reports whether the pod's first container runs for the nth time, and all of
// them serve.
func inRun(p *v1.Pod, n int32) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == "c0" {
			return c.State.Running != nil && c.RestartCount == n && condition(&p.Status, v1.ContainersReady) == string(v1.ConditionTrue)
		}
	}
	return false
}
