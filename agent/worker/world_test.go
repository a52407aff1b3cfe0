package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/credentials"
	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podruntime"
	"nodelet/internal/sleep"
)

// world is everything around a worker, in memory: the desired set, a runtime
// that is observed as it is, and what was published.
type world struct {
	mu       sync.Mutex
	ready    bool
	desired  map[pod.UID]pod.Desired
	observed map[pod.UID]pod.Observed
	images   map[string]bool
	// fail gives the error of the next calls of a kind, by method name.
	fail map[string]error
	// latency is how long each call takes.
	latency time.Duration
	// look is how long ago it is what an observation shows.
	look time.Duration
	// slow is a method that takes an hour.
	slow   string
	calls  []string
	events []string
	set    []v1.PodStatus
	// finished are the pods whose deletion was completed.
	finished []pod.UID
	// probed are the containers that are probed.
	probed map[string]bool
	// unwritten says that statuses are not written yet, asked what was asked after.
	unwritten bool
	// askedEarly says that it was asked after while the container had not ended.
	askedEarly bool
	asked      []pod.UID
	ended      map[pod.UID]bool
	// registered are the pods whose references were registered.
	registered map[pod.UID]bool
	// again are the static pods that come back as soon as they are forgotten.
	again  map[pod.UID]*v1.Pod
	worker *Worker
}

func newWorld() *world {
	w := &world{ready: true, desired: map[pod.UID]pod.Desired{}, observed: map[pod.UID]pod.Observed{},
		images: map[string]bool{}, fail: map[string]error{}, ended: map[pod.UID]bool{}, registered: map[pod.UID]bool{},
		again: map[pod.UID]*v1.Pod{}}
	config := DefaultConfig()
	config.RuntimeName = "test"
	config.ClusterDNS = podenv.ClusterDNS{IPs: []string{"10.96.0.10"}, Domain: "cluster.local"}
	w.worker = New(config, Deps{Desired: w, Observed: observedOf{w}, Probes: probesOf{w}, Publisher: publisherOf{w},
		Sandboxes: w, Containers: w, Images: w, Hooks: w, Pulled: anybody{}, Volumes: filesOf{w}, Objects: objectsOf{w}, Host: testHost{}, Event: w.event,
		Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.DiscardHandler)})
	return w
}

// play runs f beside a running worker in a bubble of its own time.
func play(t *testing.T, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.worker.Run(ctx); close(done) }()
		f(t, w)
		cancel()
		<-done
	})
}

func testPod(uid string, change func(*v1.Pod)) *v1.Pod {
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: uid, UID: types.UID(uid)}}
	p.Spec.Containers = []v1.Container{{Name: "a", Image: "img", ImagePullPolicy: v1.PullIfNotPresent}}
	if change != nil {
		change(p)
	}
	return p
}

func (w *world) put(p *v1.Pod) {
	w.mu.Lock()
	d := w.desired[pod.UID(p.UID)]
	d.Pod, d.Source = p, pod.SourceAPI
	w.desired[pod.UID(p.UID)] = d
	w.mu.Unlock()
	w.worker.Mark(pod.UID(p.UID))
}

func (w *world) Get(uid pod.UID) (pod.Desired, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, ok := w.desired[uid]
	return d, ok
}

func (w *world) Ready() bool { return w.ready }

func (w *world) Ended(uid pod.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[uid] = true
}

func (w *world) Forget(uid pod.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.desired, uid)
	if p := w.again[uid]; p != nil {
		delete(w.again, uid)
		w.desired[uid] = pod.Desired{Pod: p, Source: pod.SourceFile, FirstSeen: time.Now()}
		w.worker.Mark(uid)
	}
}

func (w *world) event(e pod.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e.Reason)
}

type observedOf struct{ *world }

func (o observedOf) Get(uid pod.UID) (pod.Observed, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	observed := o.observed[uid]
	observed.Sandboxes, observed.Containers = slices.Clone(observed.Sandboxes), slices.Clone(observed.Containers)
	if look := o.look; look > 0 {
		o.mu.Unlock()
		time.Sleep(look)
		o.mu.Lock()
	}
	return observed, true
}

func (o observedOf) Refresh(context.Context, pod.UID) error { return o.failure("Refresh") }

// filesOf are the pods' files; only what goes wrong is counted as a call.
type filesOf struct{ *world }

func (f filesOf) Mount(context.Context, *v1.Pod) error { return f.failure("Mount") }
func (f filesOf) Mounts(*v1.Pod, *v1.Container, []podruntime.EnvVar) ([]podruntime.Mount, error) {
	return nil, f.failure("Mounts")
}
func (f filesOf) File(uid pod.UID, name string, _ []byte) (string, error) {
	return "/pods/" + string(uid) + "/" + name, nil
}
func (f filesOf) Unmount(context.Context, pod.UID) error { return f.failure("Unmount") }
func (f filesOf) Remove(context.Context, pod.UID) error  { return f.failure("Remove") }

// objectsOf are the config maps and secrets: none.
type objectsOf struct{ *world }

func (o objectsOf) Register(uid pod.UID, _ string, _, _ []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.registered[uid] = true
}

func (o objectsOf) Unregister(uid pod.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.registered, uid)
}

func (o objectsOf) ConfigMap(_ context.Context, _, name string) (*v1.ConfigMap, error) {
	if o.failure("ConfigMap") != nil {
		return nil, apierrors.NewNotFound(v1.Resource("configmap"), name)
	}
	return &v1.ConfigMap{Data: map[string]string{"k": "v"}}, nil
}

func (o objectsOf) Secret(_ context.Context, _, name string) (*v1.Secret, error) {
	return nil, apierrors.NewNotFound(v1.Resource("secrets"), name)
}

type testHost struct{}

func (testHost) Node() *v1.Node                                          { return &v1.Node{} }
func (testHost) IPs() []string                                           { return []string{"192.0.2.1"} }
func (testHost) Services(context.Context, string) ([]*v1.Service, error) { return nil, nil }
func (testHost) Credentials() credentials.Keyring                        { return credentials.Keyring{} }
func (testHost) ReadFile(string) ([]byte, error)                         { return nil, nil }

// probesOf finds out nothing, and keeps what is to be probed.
type probesOf struct{ *world }

func (p probesOf) Sync(_ *v1.Pod, o pod.Observed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.probed = map[string]bool{}
	for _, c := range o.Containers {
		if c.State == pod.ContainerRunning {
			p.probed[c.ID] = true
		}
	}
}

// isProbed reports whether a container is probed.
func (w *world) isProbed(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.probed[id]
}

// published are all statuses that were set.
func (w *world) published() []v1.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.set)
}

func (probesOf) Results(pod.UID) pod.Probes { return nil }
func (probesOf) Forget(pod.UID)             {}

type publisherOf struct{ *world }

func (p publisherOf) Set(_ *v1.Pod, status v1.PodStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set = append(p.set, status)
}

func (p publisherOf) Finish(last *v1.Pod, status v1.PodStatus) {
	p.Set(last, status)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished = append(p.finished, pod.UID(last.UID))
}

func (p publisherOf) Written(uid pod.UID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.set) > 0 && p.set[len(p.set)-1].ContainerStatuses[0].State.Terminated == nil {
		p.askedEarly = true
	}
	if p.unwritten {
		p.asked = append(p.asked, uid)
	}
	return !p.unwritten
}

func (p publisherOf) Forget(pod.UID) {}

// status is the newest published one.
func (w *world) status() v1.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.set) == 0 {
		return v1.PodStatus{}
	}
	return w.set[len(w.set)-1]
}

// failure takes the error that the next call of a method is to return.
func (w *world) failure(method string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fail[method]
}

func (w *world) setFailure(method string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail[method] = err
}

// call notes a call, waits as long as it takes and returns its error.
func (w *world) call(ctx context.Context, method, what string) error {
	w.mu.Lock()
	w.calls = append(w.calls, method+" "+what)
	latency := w.latency
	if method == w.slow {
		latency = time.Hour
	}
	w.mu.Unlock()
	sleep.For(ctx, latency)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return w.failure(method)
}

func (w *world) change(uid pod.UID, f func(*pod.Observed)) {
	w.mu.Lock()
	o := w.observed[uid]
	o.UID = uid
	o.Sandboxes, o.Containers = slices.Clone(o.Sandboxes), slices.Clone(o.Containers)
	f(&o)
	w.observed[uid] = o
	w.mu.Unlock()
	w.worker.Mark(uid)
}

// exit has the newest incarnation of container a end.
func (w *world) exit(uid pod.UID, code int32) {
	w.change(uid, func(o *pod.Observed) {
		c := &o.Containers[0]
		c.State, c.ExitCode, c.FinishedAt, c.Reason = pod.ContainerExited, code, time.Now(), "Error"
	})
}

func (w *world) find(id string) (uid pod.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for uid, o := range w.observed {
		for _, s := range o.Sandboxes {
			if s.ID == id {
				return uid
			}
		}
		for _, c := range o.Containers {
			if c.ID == id {
				return uid
			}
		}
	}
	return ""
}

func (w *world) RunSandbox(ctx context.Context, c podruntime.SandboxConfig) (string, error) {
	if err := w.call(ctx, "RunSandbox", fmt.Sprint(c.Pod.Name, c.Attempt)); err != nil {
		return "", err
	}
	id := fmt.Sprintf("s-%s-%d", c.Pod.Name, c.Attempt)
	w.change(pod.UID(c.Pod.UID), func(o *pod.Observed) {
		o.Sandboxes = slices.Insert(o.Sandboxes, 0, pod.Sandbox{ID: id, Attempt: c.Attempt, Ready: true, IPs: []string{"10.0.0.1"}})
	})
	return id, nil
}

func (w *world) StopSandbox(ctx context.Context, id string) error {
	if err := w.call(ctx, "StopSandbox", id); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) { o.Sandboxes[0].Ready = false })
	return nil
}

func (w *world) RemoveSandbox(ctx context.Context, id string) error {
	if err := w.call(ctx, "RemoveSandbox", id); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) { o.Sandboxes, o.Containers = nil, nil })
	return nil
}

func (w *world) CreateContainer(ctx context.Context, sandbox string, c podruntime.ContainerConfig) (string, error) {
	if err := w.call(ctx, "CreateContainer", fmt.Sprint(c.Container.Name, c.Attempt)); err != nil {
		return "", err
	}
	id := fmt.Sprintf("%s-%s-%d", c.Container.Name, c.Pod.Name, c.Attempt)
	has := pod.ResourcesOf(c.Container.Resources)
	w.change(pod.UID(c.Pod.UID), func(o *pod.Observed) {
		o.Containers = slices.Insert(o.Containers, 0, pod.Container{ID: id, Name: c.Container.Name, SandboxID: sandbox,
			Attempt: c.Attempt, State: pod.ContainerCreated, Hash: c.Hash, PreStop: pod.PreStop(c.Container), Resources: &has})
	})
	return id, nil
}

func (w *world) StartContainer(ctx context.Context, id string) error {
	if err := w.call(ctx, "StartContainer", id); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) { o.Containers[0].State = pod.ContainerRunning })
	return nil
}

func (w *world) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := w.call(ctx, "StopContainer", fmt.Sprint(id, " ", grace)); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) {
		for i := range o.Containers {
			if c := &o.Containers[i]; c.ID == id {
				c.State, c.ExitCode, c.FinishedAt, c.Reason = pod.ContainerExited, 137, time.Now(), "Error"
			}
		}
	})
	return nil
}

func (w *world) RemoveContainer(ctx context.Context, id string) error {
	if err := w.call(ctx, "RemoveContainer", id); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) {
		o.Containers = slices.DeleteFunc(o.Containers, func(c pod.Container) bool { return c.ID == id })
	})
	return nil
}

func (w *world) Image(_ context.Context, ref string) (podruntime.Image, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.images[ref] {
		return podruntime.Image{}, podruntime.NotFound("image", ref)
	}
	return podruntime.Image{ID: ref, Size: 42}, nil
}

func (w *world) PullImage(ctx context.Context, r podruntime.PullRequest, _ func(podruntime.PullProgress)) (string, error) {
	if err := w.call(ctx, "PullImage", r.Ref); err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images[r.Ref] = true
	return r.Ref, nil
}

// RunHook is a hook that takes as long as its handler sleeps; one that executes
// something fails.
func (w *world) RunHook(ctx context.Context, _ *v1.Pod, _ *v1.Container, id, ip string, h *v1.LifecycleHandler) error {
	w.mu.Lock()
	w.calls = append(w.calls, fmt.Sprintf("RunHook %s %s", id, ip))
	w.mu.Unlock()
	if h.Sleep == nil {
		return errors.New("secret")
	}
	sleep.For(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
	return ctx.Err()
}

func (w *world) ListPods(context.Context) ([]pod.Observed, error)          { panic("unused") }
func (w *world) InspectPod(context.Context, pod.UID) (pod.Observed, error) { panic("unused") }
func (w *world) ListImages(context.Context) ([]podruntime.Image, error)    { panic("unused") }
func (w *world) RemoveImage(context.Context, string) error                 { panic("unused") }

func (w *world) UpdateContainer(ctx context.Context, id string, r v1.ResourceRequirements) error {
	if err := w.call(ctx, "UpdateContainer", fmt.Sprint(id, " ", r.Requests.Cpu())); err != nil {
		return err
	}
	w.change(w.find(id), func(o *pod.Observed) {
		has := pod.ResourcesOf(r)
		o.Containers[0].Resources = &has
	})
	return nil
}

// anybody may use every image.
type anybody struct{}

func (anybody) Pulling(string) error                                  { return nil }
func (anybody) Pulled(string, string, *kubeletconfig.ImagePullSecret) {}
func (anybody) Failed(string)                                         {}
func (anybody) MayUse(string, podruntime.Image, func() []kubeletconfig.ImagePullSecret) bool {
	return true
}
