// Package mirror keeps the mirror pods: for each static pod of this node one
// pod in the API server that shows it. It is the only one that makes and
// deletes them; their statuses are package publish's.
//
// A mirror is made when there is none, deleted when its static pod has left,
// and replaced when it shows another manifest or somebody has deleted it. The
// static pods need none of this to run.
//
// What is to be is asked of the desired set each time, what is comes from the
// watch on pods (Set, Deleted, Synced); both only mark a name. The one goroutine
// of Run makes the calls, in calls.go.
package mirror

import (
	"context"
	"log/slog"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"nodelet/agent/pod"
)

// API is what is asked of the API server. Errors are its own, wrapped.
type API interface {
	CreatePod(ctx context.Context, p *v1.Pod) (*v1.Pod, error)
	// DeletePod deletes the pod of that UID; one of the same name with another
	// UID is a Conflict.
	DeletePod(ctx context.Context, namespace, name string, uid types.UID, grace time.Duration) error
}

// Desired is the desired set as the keeper sees it.
type Desired interface {
	// Static returns the static pod of a name, or nil.
	Static(name types.NamespacedName) *v1.Pod
	// SetMirror notes which mirror a static pod has; empty for none.
	SetMirror(static pod.UID, mirror pod.MirrorUID)
	// Ready says that a static pod which is not there is not wanted.
	Ready() bool
}

// Delays between two tries of a failed call.
const (
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// Deps is what the keeper works with. All are needed.
type Deps struct {
	API     API
	Desired Desired
	// Node returns the Node object, which owns the mirrors; nil while it is not
	// known.
	Node func() *v1.Node
	Log  *slog.Logger
}

// Keeper keeps the mirror pods of one node. All methods may be called
// concurrently, and none but Run waits.
type Keeper struct {
	Deps

	mu sync.Mutex
	// mirrors are the mirror pods that the API server is known to have.
	mirrors map[types.NamespacedName]*v1.Pod
	// synced says that mirrors has all of them.
	synced bool
	dirty  map[types.NamespacedName]bool
	wake   chan struct{}

	// retries belongs to the goroutine of Run.
	retries map[types.NamespacedName]retry
}

// retry is when calls for a name may be made again.
type retry struct {
	delay time.Duration
	at    time.Time
}

// New returns a Keeper; nothing is called before Run.
func New(deps Deps) *Keeper {
	return &Keeper{Deps: deps, mirrors: map[types.NamespacedName]*v1.Pod{},
		dirty: map[types.NamespacedName]bool{}, wake: make(chan struct{}, 1),
		retries: map[types.NamespacedName]retry{}}
}

// Mark says that the static pod of a name has entered or left the desired set.
func (k *Keeper) Mark(name types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mark(name)
}

// MarkAll says that it is known now which static pods there are not.
func (k *Keeper) MarkAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.mirrors {
		k.mark(name)
	}
}

// Set takes a mirror pod as the API server has it. What is older than what is
// known, because a watch is behind, is passed over.
func (k *Keeper) Set(mirror *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := nameOf(mirror)
	if known := k.mirrors[name]; known != nil {
		order, err := resourceversion.CompareResourceVersion(known.ResourceVersion, mirror.ResourceVersion)
		if err == nil && order > 0 {
			return
		}
	}
	k.mirrors[name] = mirror
	k.mark(name)
}

// Deleted takes the last state of a mirror pod that is gone.
func (k *Keeper) Deleted(mirror *v1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.forget(mirror)
	k.mark(nameOf(mirror))
}

// Synced says that every mirror pod there was at the start has been set: from
// then on one that is not known is not there.
func (k *Keeper) Synced() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.synced = true
	k.notify()
}

// Mirror returns the newest known mirror pod of a static pod, or nil.
func (k *Keeper) Mirror(static *v1.Pod) *v1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	if m := k.mirrors[nameOf(static)]; m != nil && pod.Mirrors(m, static) {
		return m
	}
	return nil
}

// forget drops a mirror pod that is gone, unless there is another one of its
// name by now. The lock is held.
func (k *Keeper) forget(mirror *v1.Pod) {
	if known := k.mirrors[nameOf(mirror)]; known != nil && known.UID == mirror.UID {
		delete(k.mirrors, nameOf(mirror))
	}
}

// mark has Run look at a name. The lock is held.
func (k *Keeper) mark(name types.NamespacedName) {
	k.dirty[name] = true
	k.notify()
}

func (k *Keeper) notify() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func nameOf(p *v1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}
