package fakeruntime

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Options are what a Runtime is made of. The zero value is valid.
type Options struct {
	// Rand seeds the Runtime: New draws from it and keeps no reference. Nil is
	// a fixed seed.
	Rand *rand.Rand
	// Script is how containers behave; nil for DefaultBehavior.
	Script Script
	// PodCIDR is where pods' addresses come from; zero for 10.88.0.0/16.
	PodCIDR netip.Prefix
	// HostIP is the node's own address: no pod gets it.
	HostIP netip.Addr
	// Images are the references of images that are there from the start.
	Images []string
}

// errPowerOff is the answer of a machine that is switched off.
var errPowerOff = errors.New("the machine has no power")

// Runtime is a podruntime.Runtime in memory. All methods may be called
// concurrently.
type Runtime struct {
	seed     uint64
	hostIP   netip.Addr
	podCIDR  netip.Prefix
	mu       sync.Mutex
	script   Script
	off      bool
	timeline timeline
	// now is the moment that the state is of. It never lies ahead of time.Now.
	now time.Time
	// serial counts what was ever made, for IDs.
	serial uint64
	// lastIP is the address handed out last.
	lastIP netip.Addr

	// The maps are made when first needed: most nodes of a big cluster are
	// idle.
	pods       map[pod.UID]*podState
	sandboxes  map[string]*sandbox
	containers map[string]*container
	images     map[string]image

	// dirty are the pods that have changed since the lock was taken.
	dirty []pod.UID
	// subscribers is replaced, never changed.
	subscribers []*func(pod.UID)
	violations  []string
}

var _ podruntime.Runtime = (*Runtime)(nil)

// podState is what exists of one pod, newest first.
type podState struct {
	uid             pod.UID
	namespace, name string
	sandboxes       []*sandbox
	containers      []*container
	// written are the bytes that containers which were removed have left in a volume.
	written map[writer]int64
}

// writer is what writes to a volume: all incarnations of a container.
type writer struct{ container, volume string }

// New returns a Runtime that has no pods.
func New(options Options) *Runtime {
	r := &Runtime{
		seed:    1,
		script:  options.Script,
		podCIDR: options.PodCIDR.Masked(),
		hostIP:  options.HostIP,
	}
	if options.Rand != nil {
		r.seed = options.Rand.Uint64()
	}
	if r.script == nil {
		r.script = DefaultScript
	}
	if !r.podCIDR.IsValid() {
		r.podCIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 88, 0, 0}), 16)
	}
	for _, ref := range options.Images {
		// A reference that cannot be parsed is of an image that is never found.
		if name, err := podruntime.NormalizeImage(ref); err == nil {
			r.addImage(name)
		}
	}
	return r
}

// Subscribe implements podruntime.Events.
func (r *Runtime) Subscribe(notify func(pod.UID)) (cancel func()) {
	r.lock()
	defer r.unlock()
	subscription := &notify
	r.subscribers = append(slices.Clone(r.subscribers), subscription)
	return func() {
		r.lock()
		defer r.unlock()
		r.subscribers = slices.DeleteFunc(slices.Clone(r.subscribers), func(s *func(pod.UID)) bool { return s == subscription })
	}
}

// Status implements podruntime.Events.
func (r *Runtime) Status(ctx context.Context) (podruntime.Status, error) {
	if err := r.enter(ctx); err != nil {
		return podruntime.Status{}, err
	}
	defer r.unlock()
	return podruntime.Status{Name: "fake", Version: "1.0", Ready: true}, nil
}

// enter takes the lock for a call of the runtime, if there is anybody to answer
// it. After an error the lock is not held.
func (r *Runtime) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r.lock()
	if r.off {
		r.unlock()
		return errPowerOff
	}
	return nil
}

// lock takes the lock and brings the state up to date.
func (r *Runtime) lock() {
	r.mu.Lock()
	r.advance(time.Now())
}

// unlock gives the lock back and then tells of what has changed.
func (r *Runtime) unlock() {
	r.arm()
	dirty, subscribers := r.dirty, r.subscribers
	r.dirty = nil
	r.mu.Unlock()
	for _, uid := range dirty {
		for _, notify := range subscribers {
			(*notify)(uid)
		}
	}
}

// changed notes that something has happened to a pod.
func (r *Runtime) changed(p *podState) {
	if !slices.Contains(r.dirty, p.uid) {
		r.dirty = append(r.dirty, p.uid)
	}
}

// podOf returns what exists of a pod, which may be nothing yet.
func (r *Runtime) podOf(p *v1.Pod) *podState {
	state := r.pods[pod.UID(p.UID)]
	if state == nil {
		if r.pods == nil {
			r.pods = map[pod.UID]*podState{}
		}
		state = &podState{uid: pod.UID(p.UID), namespace: p.Namespace, name: p.Name}
		r.pods[state.uid] = state
	}
	return state
}

// forgetEmpty drops a pod of which nothing is left.
func (r *Runtime) forgetEmpty(p *podState) {
	if len(p.sandboxes) == 0 && len(p.containers) == 0 {
		delete(r.pods, p.uid)
	}
}

// newID returns an ID like Docker's. parts say what it is of.
func (r *Runtime) newID(parts ...string) string {
	r.serial++
	h := sha256.New()
	r.mix(h, r.serial, parts)
	return hex.EncodeToString(h.Sum(nil))
}

// draw picks from l. The choice depends on the seed and the key alone, not on
// what was drawn before: what one pod gets does not hang on when another came.
func (r *Runtime) draw(l Latency, number uint64, key ...string) time.Duration {
	if l.Max <= l.Min {
		return max(l.Min, 0)
	}
	h := fnv.New64a()
	r.mix(h, number, key)
	source := rand.NewPCG(r.seed, h.Sum64())
	return l.Min + time.Duration(rand.New(source).Int64N(int64(l.Max-l.Min)+1))
}

// mix feeds the seed and a key to a hash.
func (r *Runtime) mix(h hash.Hash, number uint64, key []string) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], r.seed)
	binary.LittleEndian.PutUint64(b[8:], number)
	h.Write(b[:])
	for _, part := range key {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
}
