package kubeapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

func serviceOf(namespace, name, version, ip string) *v1.Service {
	m := metaOf(name, version)
	m.Namespace, m.Labels = namespace, map[string]string{"version": version}
	return &v1.Service{TypeMeta: typeMeta("Service"), ObjectMeta: m, Spec: v1.ServiceSpec{ClusterIP: ip,
		ClusterIPs: []string{ip}, Ports: []v1.ServicePort{{Name: "p", Protocol: "TCP", Port: 80, NodePort: 30000}}}}
}

// names lists namespace/name/IP of services.
func names(t *testing.T, services []*v1.Service, err error) string {
	t.Helper()
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, s := range services {
		if s.Labels != nil || s.ManagedFields != nil || s.Spec.ClusterIPs != nil || s.Spec.Ports[0].NodePort != 0 {
			t.Errorf("kept more than is needed: %+v", s)
		}
		if p := s.Spec.Ports[0]; p.Name != "p" || p.Protocol != "TCP" || p.Port != 80 {
			t.Errorf("port %+v", p)
		}
		all = append(all, s.Namespace+"/"+s.Name+"/"+s.Spec.ClusterIP)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestServicesAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.list(serviceOf("default", "kubernetes", "1", "10.0.0.1"), serviceOf("default", "x", "1", "10.0.0.2"),
			serviceOf("ns", "a", "1", "10.0.0.3"), serviceOf("ns", "headless", "1", "None"), serviceOf("ns", "external", "1", ""))
		c := s.client()
		expect := func(namespace, want string) {
			t.Helper()
			synctest.Wait()
			services, err := c.Services(namespace)
			if got := names(t, services, err); got != want {
				t.Errorf("services for %s: %s, want %s", namespace, got, want)
			}
		}
		expect("ns", "services have not yet been read at least once, cannot construct envvars")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { c.WatchServices(ctx); close(done) }()
		expect("ns", "default/kubernetes/10.0.0.1 ns/a/10.0.0.3")
		expect("default", "default/kubernetes/10.0.0.1 default/x/10.0.0.2")
		expect("other", "default/kubernetes/10.0.0.1")

		// What a reader has and what a copy holds is left alone.
		w := s.open("/api/v1/services?")
		change := func(kind watch.EventType, o *v1.Service, want string) {
			t.Helper()
			var frozen Services
			frozen.Set(&c.services)
			read, _ := frozen.For("ns")
			before := names(t, read, nil)
			send(w, kind, o)
			expect("ns", want)
			again, err := frozen.For("ns")
			if names(t, read, nil) != before || names(t, again, err) != before {
				t.Errorf("%s became %s for a reader, %s in a copy", before, names(t, read, nil), names(t, again, err))
			}
		}
		const api = "default/kubernetes/10.0.0.1"
		change(watch.Added, serviceOf("ns", "b", "2", "10.0.0.4"), api+" ns/a/10.0.0.3 ns/b/10.0.0.4")
		change(watch.Modified, serviceOf("ns", "headless", "3", "10.0.0.5"), api+" ns/a/10.0.0.3 ns/b/10.0.0.4 ns/headless/10.0.0.5")
		change(watch.Modified, serviceOf("ns", "a", "4", "10.0.0.6"), api+" ns/a/10.0.0.6 ns/b/10.0.0.4 ns/headless/10.0.0.5")
		change(watch.Modified, serviceOf("ns", "headless", "5", "None"), api+" ns/a/10.0.0.6 ns/b/10.0.0.4")
		change(watch.Deleted, serviceOf("ns", "b", "6", "10.0.0.4"), api+" ns/a/10.0.0.6")
		change(watch.Deleted, serviceOf("ns", "external", "6", ""), api+" ns/a/10.0.0.6")
		change(watch.Added, serviceOf("new", "x", "6", "10.0.0.7"), api+" ns/a/10.0.0.6")
		change(watch.Deleted, serviceOf("new", "x", "6", "10.0.0.7"), api+" ns/a/10.0.0.6")
		// A change that containers are not told of makes no new list.
		same := c.services.lists.Load()
		send(w, watch.Modified, serviceOf("ns", "a", "7", "10.0.0.6"))
		synctest.Wait()
		if c.services.lists.Load() != same {
			t.Error("a new list without a change")
		}
		send(w, watch.Deleted, serviceOf("ns", "a", "8", "10.0.0.6"))
		expect("ns", "default/kubernetes/10.0.0.1")
		if n := len(*c.services.lists.Load()); n != 1 {
			t.Errorf("%d namespaces are kept, want only those that have services", n)
		}
		cancel()
		<-done
		expect("ns", "default/kubernetes/10.0.0.1")
	})
}

// Readers do not write where another reader, or the watch, may.
func TestReadersShareNothing(t *testing.T) {
	var s Services
	own := append(make([]*v1.Service, 0, 4), compact(serviceOf("ns", "a", "1", "10.0.0.3")))
	s.lists.Store(&map[string][]*v1.Service{"ns": own, "default": {compact(serviceOf("default", "kubernetes", "1", "10.0.0.1"))}})
	if services, err := s.For("ns"); err != nil || len(services) != 2 || own[:2][1] != nil {
		t.Errorf("%v (%v), and behind the list %v", services, err, own[:2][1])
	}
}

// What was known stays while the API server is away, and the end is quick.
func TestServicesWithoutServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Services
		away := &cache.ListWatch{
			ListWithContextFunc: func(_ context.Context, _ metav1.ListOptions) (runtime.Object, error) { return nil, errors.New("away") },
			WatchFuncWithContext: func(_ context.Context, _ metav1.ListOptions) (watch.Interface, error) {
				return nil, syscall.ECONNREFUSED
			}}
		s.lists.Store(&map[string][]*v1.Service{"ns": {compact(serviceOf("ns", "a", "1", "10.0.0.3"))}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { FollowServices(ctx, away, &s); close(done) }()
		time.Sleep(time.Hour)
		services, err := s.For("ns")
		if got := names(t, services, err); got != "ns/a/10.0.0.3" {
			t.Errorf("services %s", got)
		}
		start := time.Now()
		cancel()
		<-done
		if took := time.Since(start); took > 0 {
			t.Errorf("the end took %v", took)
		}
	})
}

func TestCreateToken(t *testing.T) {
	s := newServer(t)
	const call = "POST /api/v1/namespaces/ns/serviceaccounts/sa/token"
	seconds := int64(3607)
	r := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{Audiences: []string{"a"}, ExpirationSeconds: &seconds,
		BoundObjectRef: &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"}}}
	answer := r.DeepCopy()
	answer.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"}
	answer.Status.Token = "secret"
	s.answer(call, http.StatusCreated, answer)
	got, err := s.client().CreateToken(t.Context(), "ns", "sa", r)
	if err != nil || got.Status.Token != "secret" {
		t.Fatalf("%v %v", got, err)
	}
	sent := s.take()[0].object(t).(*authentication.TokenRequest)
	if *sent.Spec.ExpirationSeconds != 3607 || sent.Spec.BoundObjectRef.UID != "u" || sent.Spec.Audiences[0] != "a" {
		t.Errorf("sent %+v", sent.Spec)
	}
	s.answer(call, http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden))
	if _, err := s.client().CreateToken(t.Context(), "ns", "sa", r); !apierrors.IsForbidden(err) ||
		!strings.Contains(err.Error(), "creating a token of service account ns/sa: ") {
		t.Errorf("%v", err)
	}
}
