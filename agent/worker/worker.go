// Package worker brings each pod from what was observed of it to what is
// desired: it takes the newest snapshot, has package plan decide, starts the
// actions, and hands the resulting status to the publisher.
//
// One goroutine looks at the pods that were marked dirty, one after the other;
// a look is short, for nothing in it waits. Only actions under way have
// goroutines: an idle pod costs none, and no timer. When an action has ended,
// the pod is looked at in the runtime before it is planned again, so no plan
// is made from before its own last action.
package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/credentials"
	"nodelet/agent/plan"
	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podruntime"
)

// Desired is the desired set as the worker sees it.
type Desired interface {
	Get(uid pod.UID) (pod.Desired, bool)
	Ready() bool
	// Ended says that nothing of the pod runs any more, for good.
	Ended(uid pod.UID)
	// Forget drops a pod that no source lists and of which nothing is left.
	Forget(uid pod.UID)
}

// Observed is the observed set as the worker sees it.
type Observed interface {
	Get(uid pod.UID) (pod.Observed, bool)
	// Refresh looks at the pod in the runtime now.
	Refresh(ctx context.Context, uid pod.UID) error
}

// Probes runs the probes of the containers that run.
type Probes interface {
	Sync(p *v1.Pod, observed pod.Observed)
	Results(uid pod.UID) pod.Probes
	Forget(uid pod.UID)
}

// Publisher writes statuses to the API server. None of its methods wait.
type Publisher interface {
	// Set takes the pod's newest status.
	Set(p *v1.Pod, status v1.PodStatus)
	// Finish takes the last status of a pod of which nothing is left, and
	// completes its deletion.
	Finish(p *v1.Pod, status v1.PodStatus)
	// Written reports whether the API server has the pod's newest status; if not, the
	// pod is marked when it has.
	Written(uid pod.UID) bool
	Forget(uid pod.UID)
}

// Volumes keeps the pods' files. Its calls may wait; each may be repeated.
type Volumes interface {
	// Mount makes the pod's directory and what its volumes hold.
	Mount(ctx context.Context, p *v1.Pod) error
	// Mounts are the binds of a container's volume mounts; env expands their
	// subPathExpr.
	Mounts(p *v1.Pod, c *v1.Container, env []podruntime.EnvVar) ([]podruntime.Mount, error)
	// File writes a file of the agent's own into the pod's directory and
	// returns where it is; empty where pods have no files.
	File(uid pod.UID, name string, content []byte) (path string, err error)
	// Unmount lets the volumes of a pod go of which nothing runs any more,
	// Remove what is left of its directory.
	Unmount(ctx context.Context, uid pod.UID) error
	Remove(ctx context.Context, uid pod.UID) error
}

// Objects are the config maps and secrets that pods refer to.
type Objects interface {
	// Register says what a pod refers to from now on, so that changes mark it;
	// Unregister that it no longer does.
	Register(uid pod.UID, namespace string, configMaps, secrets []string)
	Unregister(uid pod.UID)
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Pulled remembers who may use which image that is on the node; see
// agent/pulled.
type Pulled interface {
	// Pulling is followed by Pulled or Failed, unless it is an error.
	Pulling(image string) error
	Pulled(image, id string, by *kubeletconfig.ImagePullSecret)
	Failed(image string)
	MayUse(image string, found podruntime.Image, pod func() []kubeletconfig.ImagePullSecret) bool
}

// Host is what containers are told of the machine and the cluster.
type Host interface {
	// Node is the newest Node object.
	Node() *v1.Node
	// IPs are the node's addresses, the primary one first.
	IPs() []string
	// Services are those that pods in a namespace are told of. Until they are
	// known it waits a while.
	Services(ctx context.Context, namespace string) ([]*v1.Service, error)
	// Credentials are those that the node itself has, for any image.
	Credentials() credentials.Keyring
	// ReadFile reads a file of the machine, such as resolv.conf.
	ReadFile(name string) ([]byte, error)
}

// Config is how the worker behaves. The zero value is not valid.
type Config struct {
	Backoff plan.BackoffLimits
	// SyncBackoff is the time until something that failed, other than an
	// image pull, is tried again; up to half as much again is added at random.
	SyncBackoff time.Duration
	// MaxParallelPulls bounds the image pulls of the node.
	MaxParallelPulls int
	// RuntimeName is the scheme of container IDs in statuses.
	RuntimeName string
	// RecursiveReadOnly says that mounts can be read-only with all that is mounted
	// below.
	RecursiveReadOnly bool
	// ClusterDNS is the cluster's name service, ResolvConf the file with the
	// machine's own; empty for none.
	ClusterDNS podenv.ClusterDNS
	ResolvConf string
	// PodLogsDirectory is where links to the containers' logs go; empty for none.
	PodLogsDirectory string
	// CgroupOf returns the cgroup of a pod, empty for the runtime's own choice;
	// nil for none.
	CgroupOf func(*v1.Pod) string
}

// DefaultConfig has the kubelet's values.
func DefaultConfig() Config {
	return Config{Backoff: plan.DefaultBackoff(), SyncBackoff: 10 * time.Second, MaxParallelPulls: 5}
}

// Deps is what the worker works with. All are needed.
type Deps struct {
	Desired    Desired
	Observed   Observed
	Probes     Probes
	Publisher  Publisher
	Sandboxes  podruntime.Sandboxes
	Containers podruntime.Containers
	Images     podruntime.Images
	Hooks      Hooks
	Pulled     Pulled
	Volumes    Volumes
	Objects    Objects
	Host       Host
	// Event is told what the pods' owners should hear of; it does not wait.
	Event func(pod.Event)
	// Rand is used by the worker alone.
	Rand *rand.Rand
	Log  *slog.Logger
}

// Worker works on all pods of a node. Mark may be called concurrently.
type Worker struct {
	config Config
	Deps
	queue *queue
	pulls chan struct{}

	// pods belongs to the goroutine of Run.
	pods    map[pod.UID]*state
	actions sync.WaitGroup

	mu      sync.Mutex
	results map[pod.UID][]result
	// retries are the pods of which something that failed may succeed now.
	retries map[pod.UID]bool
}

// state is what the worker remembers of one pod.
type state struct {
	history plan.History
	// flights are the actions under way, by key.
	flights map[string]flight
	// preStops are the preStop hooks under way or done, by container ID.
	preStops map[string]*preStop
	// stale says that the runtime could not be asked since the last action.
	stale bool
	// status is the newest computed status.
	status  v1.PodStatus
	waiting map[string]plan.Waiting
	ended   bool
	// finished says that the publisher was told to complete the deletion.
	finished bool
	// rejected says that the rejection was told, endTold that the reason was for
	// which the node ends the pod.
	rejected, endTold bool
	// killed are the containers that were told to be stopped when the pod began to
	// end; nil before. They may be stopped later, in their turn.
	killed map[string]bool
	resize resizeTold
	// registered is the object whose references were registered.
	registered *v1.Pod
	seq        uint64
}

type flight struct {
	seq    uint64
	cancel context.CancelFunc
}

// New returns a Worker; nothing happens before Run.
func New(config Config, deps Deps) *Worker {
	return &Worker{config: config, Deps: deps, queue: newQueue(),
		pulls: make(chan struct{}, config.MaxParallelPulls),
		pods:  map[pod.UID]*state{}, results: map[pod.UID][]result{},
		retries: map[pod.UID]bool{}}
}

// Mark marks a pod dirty: it is looked at soon. It does not wait.
func (w *Worker) Mark(uid pod.UID) { w.queue.add(uid) }

// Retry marks a pod dirty because something that it refers to has changed: what
// failed for want of it is tried at once.
func (w *Worker) Retry(uid pod.UID) {
	w.mu.Lock()
	w.retries[uid] = true
	w.mu.Unlock()
	w.queue.add(uid)
}

// Run works until ctx ends, then abandons the actions under way and returns
// when they have ended. Nothing is stopped: the pods outlive the agent.
func (w *Worker) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	defer w.actions.Wait()
	for ctx.Err() == nil {
		uids, next := w.queue.take(time.Now())
		for _, uid := range uids {
			w.step(ctx, uid)
		}
		if len(uids) > 0 {
			// Looking may have set an earlier time.
			continue
		}
		if !next.IsZero() {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-w.queue.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}
