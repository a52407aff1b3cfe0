package kubeapi

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
)

// apiService is the service in the namespace default that every pod is told of.
const apiService = "kubernetes"

// errServicesUnknown is the kubelet's message for a container whose environment
// cannot be made yet.
var errServicesUnknown = errors.New("services have not yet been read at least once, cannot construct envvars")

// Services is what containers are told of a cluster's services: namespace, name,
// cluster IP and ports of those that have a cluster IP. The zero value knows
// nothing yet. It has one writer, FollowServices; all else may be called
// concurrently with it.
type Services struct {
	// lists are the services by namespace; nil before the first list. What it
	// leads to is never changed.
	lists atomic.Pointer[map[string][]*v1.Service]
}

// For returns what a pod in a namespace is told of: the namespace's services,
// and the API server's. They must not be changed. It is an error to ask before
// the services were listed once.
func (s *Services) For(namespace string) ([]*v1.Service, error) {
	lists := s.lists.Load()
	if lists == nil {
		return nil, errServicesUnknown
	}
	own := (*lists)[namespace]
	if namespace == metav1.NamespaceDefault {
		return own, nil
	}
	for _, service := range (*lists)[metav1.NamespaceDefault] {
		if service.Name == apiService {
			return append(slices.Clip(own), service), nil
		}
	}
	return own, nil
}

// Set makes s what other is now; they share their content.
func (s *Services) Set(other *Services) { s.lists.Store(other.lists.Load()) }

// WatchServices follows all services, as a kubelet does for the environment of
// its containers.
func (c *Client) WatchServices(ctx context.Context) {
	lw := listWatch(c.core.Services(metav1.NamespaceAll).List, c.core.Services(metav1.NamespaceAll).Watch, fields.Everything())
	FollowServices(ctx, cache.ToListWatcherWithWatchListSemantics(lw, c.core.RESTClient()), &c.services)
}

// Services returns what WatchServices knows; see Services.For.
func (c *Client) Services(namespace string) ([]*v1.Service, error) { return c.services.For(namespace) }

// FollowServices keeps s as the services that lw lists and watches, until ctx
// ends.
func FollowServices(ctx context.Context, lw cache.ListerWatcher, s *Services) {
	cache.NewReflectorWithOptions(lw, &v1.Service{}, serviceStore{s},
		cache.ReflectorOptions{Name: "services", Clock: endingClock{ctx: ctx}}).RunWithContext(ctx)
}

// serviceStore is where the watch puts services. Each change makes a new list of
// one namespace, and leaves those that readers have.
type serviceStore struct{ *Services }

// Add, Update, Delete, Replace and Resync make it a cache.ReflectorStore.
func (s serviceStore) Add(obj any) error    { return s.put(obj.(*v1.Service)) }
func (s serviceStore) Update(obj any) error { return s.put(obj.(*v1.Service)) }

func (s serviceStore) Delete(obj any) error {
	service := obj.(*v1.Service)
	s.replace(service.Namespace, service.Name, nil)
	return nil
}

// Replace takes in a whole list.
func (s serviceStore) Replace(all []any, _ string) error {
	lists := map[string][]*v1.Service{}
	for _, obj := range all {
		if service := compact(obj.(*v1.Service)); service != nil {
			lists[service.Namespace] = append(lists[service.Namespace], service)
		}
	}
	s.lists.Store(&lists)
	return nil
}

func (s serviceStore) Resync() error { return nil }

func (s serviceStore) put(service *v1.Service) error {
	s.replace(service.Namespace, service.Name, compact(service))
	return nil
}

// replace puts now, or nothing, in the place of a service.
func (s serviceStore) replace(namespace, name string, now *v1.Service) {
	var lists map[string][]*v1.Service
	if before := s.lists.Load(); before != nil {
		lists = *before
	}
	own := lists[namespace]
	i := slices.IndexFunc(own, func(service *v1.Service) bool { return service.Name == name })
	switch {
	case i < 0 && now == nil, i >= 0 && reflect.DeepEqual(own[i], now):
		return
	case i < 0:
		own = append(slices.Clip(own), now)
	case now == nil:
		own = slices.Concat(own[:i], own[i+1:])
	default:
		own = slices.Clone(own)
		own[i] = now
	}
	lists = maps.Clone(lists)
	if lists == nil {
		lists = map[string][]*v1.Service{}
	}
	if lists[namespace] = own; len(own) == 0 {
		delete(lists, namespace)
	}
	s.lists.Store(&lists)
}

// compact is what containers are told of a service, or nil for one without a
// cluster IP.
func compact(service *v1.Service) *v1.Service {
	ip := service.Spec.ClusterIP
	if ip == "" || ip == v1.ClusterIPNone {
		return nil
	}
	ports := make([]v1.ServicePort, len(service.Spec.Ports))
	for i, p := range service.Spec.Ports {
		ports[i] = v1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port}
	}
	return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: service.Namespace, Name: service.Name},
		Spec: v1.ServiceSpec{ClusterIP: ip, Ports: ports}}
}
