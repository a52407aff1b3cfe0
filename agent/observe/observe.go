// Package observe watches what the runtime has and is the only writer of the
// observed set: one pod.Observed for each pod that has anything in the runtime.
//
// A periodic list is the truth; the runtime's notifications only bring a look
// forward, and a worker asks for one after each of its actions. Each look has a
// number, given before the runtime is asked, and a newer look is never
// overwritten by an older one: what a worker did before it asked for a look is
// in every snapshot from then on.
//
// A change only marks the pod dirty. Nothing here acts.
package observe

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"nodelet/agent/pod"
)

// Runtime is what is asked of the runtime.
type Runtime interface {
	ListPods(ctx context.Context) ([]pod.Observed, error)
	InspectPod(ctx context.Context, uid pod.UID) (pod.Observed, error)
	Subscribe(notify func(pod.UID)) (cancel func())
}

// Config says how often to look. The zero value is not valid.
type Config struct {
	// RelistPeriod is the time between two lists.
	RelistPeriod time.Duration
	// Timeout bounds one call of the runtime.
	Timeout time.Duration
	// RetryPeriod is the time until a failed look is tried again.
	RetryPeriod time.Duration
}

// DefaultConfig relists every minute, which is enough where the runtime notifies;
// the kubelet relists every second without and every five minutes with events.
func DefaultConfig() Config {
	return Config{RelistPeriod: time.Minute, Timeout: 2 * time.Minute, RetryPeriod: time.Second}
}

// Observer keeps the observed set. All methods may be called concurrently.
type Observer struct {
	config  Config
	runtime Runtime
	changed func(pod.UID)
	log     *slog.Logger

	mu   sync.Mutex
	pods map[pod.UID]entry
	// gone are the pods that a look newer than the newest list found empty.
	gone map[pod.UID]uint64
	// looks numbers the looks; listed is the number of the newest complete
	// list, 0 before the first.
	looks  uint64
	listed uint64
	// dirty are the pods that the runtime has notified of, looking those that
	// are being looked at.
	dirty   map[pod.UID]bool
	looking map[pod.UID]bool
	wake    chan struct{}
	// lastList is when the newest complete list was begun.
	lastList time.Time
	synced   chan struct{}
}

type entry struct {
	pod.Observed
	look uint64
}

// New returns an Observer that calls changed for each pod whose snapshot has
// changed. changed must not block.
func New(config Config, runtime Runtime, changed func(pod.UID), log *slog.Logger) *Observer {
	return &Observer{
		config: config, runtime: runtime, changed: changed, log: log,
		pods:    map[pod.UID]entry{},
		gone:    map[pod.UID]uint64{},
		dirty:   map[pod.UID]bool{},
		looking: map[pod.UID]bool{},
		wake:    make(chan struct{}, 1),
		synced:  make(chan struct{}),
	}
}

// Synced is closed once every pod that the runtime had at the start is known.
func (o *Observer) Synced() <-chan struct{} { return o.synced }

// Get returns the newest snapshot of a pod. ok is false until the runtime has
// been listed once; after that a pod which it does not have is empty.
func (o *Observer) Get(uid pod.UID) (observed pod.Observed, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.listed == 0 {
		return pod.Observed{}, false
	}
	if e, found := o.pods[uid]; found {
		return e.Observed, true
	}
	return pod.Observed{UID: uid, At: o.lastList}, true
}

// UIDs are those of all pods that the runtime has something of.
func (o *Observer) UIDs() []pod.UID {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Sorted(maps.Keys(o.pods))
}

// Run looks until ctx ends. It returns when every look has ended.
func (o *Observer) Run(ctx context.Context) {
	cancel := o.runtime.Subscribe(o.notify)
	defer cancel()
	var looks sync.WaitGroup
	defer looks.Wait()

	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(o.relist(ctx))
		case <-o.wake:
			for _, uid := range o.takeDirty() {
				looks.Add(1)
				go func() {
					defer looks.Done()
					o.look(ctx, uid)
				}()
			}
		}
	}
}

// notify is called by the runtime; it only marks.
func (o *Observer) notify(uid pod.UID) {
	o.mu.Lock()
	o.dirty[uid] = true
	o.mu.Unlock()
	o.signal()
}

func (o *Observer) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// takeDirty returns the pods to look at that are not being looked at; those
// stay marked and are taken when their look ends.
func (o *Observer) takeDirty() []pod.UID {
	o.mu.Lock()
	defer o.mu.Unlock()
	var uids []pod.UID
	for uid := range o.dirty {
		if !o.looking[uid] {
			o.looking[uid] = true
			delete(o.dirty, uid)
			uids = append(uids, uid)
		}
	}
	slices.Sort(uids)
	return uids
}

func (o *Observer) look(ctx context.Context, uid pod.UID) {
	if err := o.Refresh(ctx, uid); err != nil && ctx.Err() == nil {
		// The next list will see it.
		o.log.Warn("Could not look at a pod", "uid", uid, "err", err)
	}
	o.mu.Lock()
	delete(o.looking, uid)
	again := o.dirty[uid]
	o.mu.Unlock()
	if again {
		o.signal()
	}
}

// Refresh looks at one pod now. After it returned nil, Get shows everything
// that had happened to the pod before the call.
func (o *Observer) Refresh(ctx context.Context, uid pod.UID) error {
	look := o.nextLook()
	ctx, cancel := context.WithTimeout(ctx, o.config.Timeout)
	defer cancel()
	observed, err := o.runtime.InspectPod(ctx, uid)
	if err != nil {
		return fmt.Errorf("looking at pod %s: %w", uid, err)
	}
	observed.UID = uid
	if o.store(uid, observed, look) {
		o.changed(uid)
	}
	return nil
}

func (o *Observer) nextLook() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.looks++
	return o.looks
}

// store keeps a snapshot unless a newer one is there, and reports whether it
// says anything new.
func (o *Observer) store(uid pod.UID, observed pod.Observed, look uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	old, found := o.pods[uid]
	if found && old.look > look || !found && (o.listed > look || o.gone[uid] > look) {
		return false
	}
	if observed.Empty() {
		delete(o.pods, uid)
		o.gone[uid] = look
		return found
	}
	o.pods[uid] = entry{observed, look}
	return !same(old.Observed, observed)
}

// same reports whether two snapshots differ in nothing but when they were made.
func same(a, b pod.Observed) bool {
	return slices.Equal(a.Containers, b.Containers) &&
		slices.EqualFunc(a.Sandboxes, b.Sandboxes, func(s, t pod.Sandbox) bool {
			return s.ID == t.ID && s.Attempt == t.Attempt && s.Ready == t.Ready &&
				s.CreatedAt.Equal(t.CreatedAt) && slices.Equal(s.IPs, t.IPs)
		})
}
