package simcluster

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"nodelet/agent/kubeapi"
	"nodelet/agent/pod"
)

// A node may read what its pods refer to, and no more: under the Node authorizer
// the agent's watches on single objects do.
func TestNodeReadsWhatItsPodsReferTo(t *testing.T) {
	c := startCluster(t, Options{DisableScheduler: true, DisableControllerManager: true})
	core := c.client.CoreV1()
	config, err := c.proxy.config(nodeUser("n"), "n")
	if err != nil {
		t.Fatal(err)
	}
	api, err := kubeapi.New(config, kubeapi.DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan pod.UID, 10)
	objects := api.NewObjects(func(uid pod.UID) { changed <- uid })
	defer objects.Stop()
	for _, name := range []string{"a", "other"} {
		s := &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"k": "old"}}
		if _, err := core.Secrets("default").Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := core.ServiceAccounts("default").Create(t.Context(), &v1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The node hears of the pod before the authorizer does.
	objects.Register("u", "default", nil, []string{"a"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := objects.Secret(ctx, "default", "a"); !apierrors.IsForbidden(err) {
		t.Errorf("a secret that no pod refers to: %v, want Forbidden", err)
	}
	p, err := core.Pods("default").Create(t.Context(), podWithSecret("n", "a"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := objects.Secret(ctx, "default", "a")
	if err != nil || string(s.Data["k"]) != "old" {
		t.Fatalf("%v %v", s, err)
	}
	<-changed
	if _, err := objects.Secret(ctx, "default", "other"); !apierrors.IsForbidden(err) {
		t.Errorf("another secret: %v, want Forbidden", err)
	}
	if _, err := core.Secrets("default").Update(t.Context(), &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "a"},
		StringData: map[string]string{"k": "new"}}, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	<-changed
	if s, err := objects.Secret(ctx, "default", "a"); err != nil || string(s.Data["k"]) != "new" {
		t.Errorf("%v %v", s, err)
	}
	token, err := api.CreateToken(t.Context(), "default", "sa", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID}}})
	if err != nil || strings.Count(token.Status.Token, ".") != 2 {
		t.Errorf("token %v (%v)", token, err)
	}
}

func podWithSecret(node, secret string) *v1.Pod {
	return &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1.PodSpec{NodeName: node, ServiceAccountName: "sa",
		Containers: []v1.Container{{Name: "c", Image: "i", EnvFrom: []v1.EnvFromSource{
			{SecretRef: &v1.SecretEnvSource{LocalObjectReference: v1.LocalObjectReference{Name: secret}}}}}}}}
}

// The hub's services are every agent's, but a node that is cut off hears of no
// change.
func TestHubServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(nil)
		l := newLink(nil)
		ctx, cancel := context.WithCancel(t.Context())
		changes := watch.NewFake()
		service := func(name string) *v1.Service {
			return &v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: "1"}, Spec: v1.ServiceSpec{ClusterIP: "10.0.0.1"}}
		}
		lw := &cache.ListWatch{
			ListWithContextFunc: func(_ context.Context, _ metav1.ListOptions) (runtime.Object, error) {
				return &v1.ServiceList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []v1.Service{*service("a")}}, nil
			},
			WatchFuncWithContext: func(_ context.Context, o metav1.ListOptions) (watch.Interface, error) {
				if o.SendInitialEvents != nil {
					return nil, apierrors.NewInvalid(v1.SchemeGroupVersion.WithKind("Service").GroupKind(), "", nil)
				}
				return changes, nil
			}}
		w := &linkedWatches{hub: h, link: l}
		expect := func(when string, want int) {
			t.Helper()
			synctest.Wait()
			services, err := w.Services("ns")
			if len(services) != want || (err != nil) != (want == 0) {
				t.Errorf("%s: %d services (%v), want %d", when, len(services), err, want)
			}
		}
		ended := make(chan struct{}, 2)
		go func() { w.WatchServices(ctx); ended <- struct{}{} }()
		expect("before the first list", 0)
		go func() { kubeapi.FollowServices(ctx, lw, &h.services); ended <- struct{}{} }()
		expect("first list", 1)
		l.Cut()
		expect("cut", 1)
		changes.Add(service("b"))
		expect("while cut", 1)
		l.Restore()
		expect("restored", 2)
		changes.Add(service("c"))
		expect("changed", 3)
		cancel()
		<-ended
		<-ended
	})
}
