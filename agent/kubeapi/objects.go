package kubeapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"nodelet/agent/pod"
)

const (
	// objectLinger is how long an object that no pod needs any more is still
	// followed: its next pod may be about to come.
	objectLinger = 10 * time.Second
	// objectWatchTimeout is the least time that a watch on one object is open.
	// There are many, and little happens to them.
	objectWatchTimeout = 30 * time.Minute
)

// objectBackoff is between two tries of a watch. The first one comes soon: the
// Node authorizer may hear of a pod's binding after the node does, and forbids
// what the pod refers to until then.
func objectBackoff() *wait.Backoff {
	return &wait.Backoff{Duration: 25 * time.Millisecond, Factor: 2, Jitter: 1, Steps: 150, Cap: 30 * time.Second}
}

// Objects keeps the config maps and secrets that the pods of a node refer to.
// Each is followed by one watch of its own, for the Node authorizer permits no
// other, however many pods refer to it. An immutable one is not followed once
// it is known. While the API server cannot be reached, what was last known of
// an object is in use.
//
// All methods may be called concurrently.
type Objects struct {
	client  *Client
	changed func(pod.UID)
	// ctx ends with Stop.
	ctx     context.Context
	cancel  context.CancelFunc
	watches sync.WaitGroup

	mu sync.Mutex
	// objects are those that are registered or were a short while ago. Guarded
	// by mu, and so is what they hold.
	objects map[objectKey]*object
	// pods are the objects that each pod refers to. Guarded by mu.
	pods map[pod.UID]map[*object]struct{}
}

// objectKey names an object. kind is its resource in the singular, as the
// kubelet has it in its messages.
type objectKey struct{ kind, namespace, name string }

const (
	kindConfigMap = "configmap"
	kindSecret    = "secret"
)

// object is one config map or secret.
type object struct {
	key   objectKey
	users map[pod.UID]struct{}
	// linger ends the watch when no pod has come back; nil while there are users.
	linger *time.Timer
	// stop ends the watch; ended is closed when it is to end.
	stop  context.CancelFunc
	ended <-chan struct{}
	// synced is closed when it is known whether the object exists.
	synced chan struct{}
	// current is nil if the object does not exist.
	current metav1.Object
	// failure is why the newest try to list or watch failed, nil if it did not.
	failure error
}

// NewObjects returns an Objects that follows nothing yet. changed is called with
// each pod that refers to an object that has become known, has changed or is
// gone; not for what was known already when the pod was registered. It may be
// called concurrently and must not wait.
func (c *Client) NewObjects(changed func(pod.UID)) *Objects {
	ctx, cancel := context.WithCancel(context.Background())
	return &Objects{client: c, changed: changed, ctx: ctx, cancel: cancel,
		objects: map[objectKey]*object{}, pods: map[pod.UID]map[*object]struct{}{}}
}

// Stop ends all watches and returns when they have ended. Nothing is followed
// from then on; what is known stays in use.
func (o *Objects) Stop() {
	o.mu.Lock()
	o.cancel()
	o.mu.Unlock()
	o.watches.Wait()
}

// Register says which config maps and secrets of its namespace a pod refers to,
// in place of what was said of it before. It does not wait.
func (o *Objects) Register(uid pod.UID, namespace string, configMaps, secrets []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx.Err() != nil {
		return
	}
	refers := make(map[*object]struct{}, len(configMaps)+len(secrets))
	for _, name := range configMaps {
		refers[o.use(uid, objectKey{kindConfigMap, namespace, name})] = struct{}{}
	}
	for _, name := range secrets {
		refers[o.use(uid, objectKey{kindSecret, namespace, name})] = struct{}{}
	}
	for ob := range o.pods[uid] {
		if _, still := refers[ob]; !still {
			o.release(uid, ob)
		}
	}
	if len(refers) == 0 {
		delete(o.pods, uid)
		return
	}
	o.pods[uid] = refers
}

// Unregister says that a pod needs nothing any more.
func (o *Objects) Unregister(uid pod.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ob := range o.pods[uid] {
		o.release(uid, ob)
	}
	delete(o.pods, uid)
}

// use returns the object for a pod. The lock is held.
func (o *Objects) use(uid pod.UID, key objectKey) *object {
	ob := o.objects[key]
	if ob == nil {
		ob = &object{key: key, users: map[pod.UID]struct{}{}, synced: make(chan struct{})}
		o.objects[key] = ob
		o.follow(ob)
	}
	if ob.linger != nil {
		ob.linger.Stop()
		ob.linger = nil
	}
	ob.users[uid] = struct{}{}
	return ob
}

// release lets go of a pod's object. The lock is held.
func (o *Objects) release(uid pod.UID, ob *object) {
	delete(ob.users, uid)
	if len(ob.users) > 0 {
		return
	}
	ob.linger = time.AfterFunc(objectLinger, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(ob.users) == 0 && o.objects[ob.key] == ob {
			ob.stop()
			delete(o.objects, ob.key)
		}
	})
}

// ConfigMap returns a config map, which must not be changed. For a registered
// one it waits until the API server has answered once, or ctx ends; another one
// is fetched. A config map that does not exist is an error for which
// apierrors.IsNotFound holds and that reads as the kubelet's: configmap "x" not
// found.
func (o *Objects) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	m, err := o.get(ctx, objectKey{kindConfigMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return m.(*v1.ConfigMap), nil
}

// Secret is as ConfigMap, of a secret.
func (o *Objects) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	s, err := o.get(ctx, objectKey{kindSecret, namespace, name})
	if err != nil {
		return nil, err
	}
	return s.(*v1.Secret), nil
}

func (o *Objects) get(ctx context.Context, key objectKey) (metav1.Object, error) {
	o.mu.Lock()
	ob := o.objects[key]
	o.mu.Unlock()
	if ob == nil {
		return o.client.getObject(ctx, key)
	}
	var cause error
	select {
	case <-ob.synced:
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-ob.ended:
		cause = context.Canceled
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case ob.isSynced() && ob.current == nil:
		return nil, notFound(key)
	case ob.isSynced():
		return ob.current, nil
	case ob.failure != nil:
		cause = ob.failure
	}
	return nil, fmt.Errorf("failed to sync %s cache: %w", key.kind, cause)
}

func (ob *object) isSynced() bool {
	select {
	case <-ob.synced:
		return true
	default:
		return false
	}
}

func notFound(key objectKey) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: key.kind}, key.name)
}

// getObject fetches an object.
func (c *Client) getObject(ctx context.Context, key objectKey) (metav1.Object, error) {
	var got metav1.Object
	var err error
	if key.kind == kindSecret {
		got, err = c.core.Secrets(key.namespace).Get(ctx, key.name, metav1.GetOptions{})
	} else {
		got, err = c.core.ConfigMaps(key.namespace).Get(ctx, key.name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, notFound(key)
	case err != nil:
		return nil, fmt.Errorf("getting %s %s/%s: %w", key.kind, key.namespace, key.name, err)
	}
	return got, nil
}

// follow starts an object's watch. The lock is held.
func (o *Objects) follow(ob *object) {
	ctx, cancel := context.WithCancel(o.ctx)
	ob.stop, ob.ended = cancel, ctx.Done()
	selector := fields.OneTermEqualSelector("metadata.name", ob.key.name)
	var lw *cache.ListWatch
	var example runtime.Object
	if ob.key.kind == kindSecret {
		api := o.client.core.Secrets(ob.key.namespace)
		lw, example = listWatch(api.List, api.Watch, selector), &v1.Secret{}
	} else {
		api := o.client.core.ConfigMaps(ob.key.namespace)
		lw, example = listWatch(api.List, api.Watch, selector), &v1.ConfigMap{}
	}
	store := &objectStore{o, ob}
	reflector := cache.NewReflectorWithOptions(
		cache.ToListWatcherWithWatchListSemantics(store.observed(lw), o.client.core.RESTClient()), example, store,
		cache.ReflectorOptions{Name: ob.key.kind, MinWatchTimeout: objectWatchTimeout, Backoff: objectBackoff(),
			Clock: endingClock{ctx: ctx}})
	o.watches.Go(func() { reflector.RunWithContext(ctx) })
}

// objectStore is where an object's watch puts what it learns.
type objectStore struct {
	*Objects
	ob *object
}

// observed notes why calls fail.
func (s *objectStore) observed(lw *cache.ListWatch) *cache.ListWatch {
	note := func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ob.failure = err
	}
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := lw.ListWithContextFunc(ctx, o)
			note(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := lw.WatchFuncWithContext(ctx, o)
			note(err)
			return w, err
		},
	}
}

// Add, Update, Delete, Replace and Resync make it a cache.ReflectorStore.
func (s *objectStore) Add(obj any) error    { return s.set(obj.(metav1.Object), false) }
func (s *objectStore) Update(obj any) error { return s.set(obj.(metav1.Object), false) }
func (s *objectStore) Delete(any) error     { return s.set(nil, false) }
func (s *objectStore) Resync() error        { return nil }

// Replace takes in a whole list: the object, or nothing.
func (s *objectStore) Replace(list []any, _ string) error {
	if len(list) == 0 {
		return s.set(nil, true)
	}
	return s.set(list[0].(metav1.Object), true)
}

// set takes in what the object is now, and tells the pods that refer to it.
// listed: the object's absence can be told from its not being known.
func (s *objectStore) set(now metav1.Object, listed bool) error {
	s.mu.Lock()
	ob := s.ob
	before := ob.current
	if same(before, now) && (!listed || ob.isSynced()) {
		s.mu.Unlock()
		return nil
	}
	if now != nil {
		now.SetManagedFields(nil)
	}
	ob.current = now
	if (listed || now != nil) && !ob.isSynced() {
		close(ob.synced)
	}
	if isImmutable(now) {
		ob.stop()
	}
	var users []pod.UID
	if !same(before, now) {
		users = slices.Sorted(maps.Keys(ob.users))
	}
	s.mu.Unlock()
	for _, uid := range users {
		s.changed(uid)
	}
	return nil
}

func same(a, b metav1.Object) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.GetResourceVersion() == b.GetResourceVersion()
}

func isImmutable(o metav1.Object) bool {
	switch o := o.(type) {
	case *v1.ConfigMap:
		return o.Immutable != nil && *o.Immutable
	case *v1.Secret:
		return o.Immutable != nil && *o.Immutable
	}
	return false
}
