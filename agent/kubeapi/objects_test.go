package kubeapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"

	"nodelet/agent/pod"
)

// TestMain takes out client-go's error handlers: they spread errors by a clock
// that goes on from one bubble to the next, which begins earlier.
func TestMain(m *testing.M) {
	utilruntime.ErrorHandlers = nil
	os.Exit(m.Run())
}

func configMapOf(name, version, value string) *v1.ConfigMap {
	return &v1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: metaOf(name, version), Data: map[string]string{"k": value}}
}

func secretOf(name, version, value string) *v1.Secret {
	return &v1.Secret{TypeMeta: typeMeta("Secret"), ObjectMeta: metaOf(name, version), Data: map[string][]byte{"k": []byte(value)}}
}

func metaOf(name, version string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name), ResourceVersion: version,
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}}}
}

func watchOf(resource, name string) string {
	return "/api/v1/namespaces/ns/" + resource + "?metadata.name=" + name
}

// objectWorld is Objects with a server, and who was told of changes.
type objectWorld struct {
	*testing.T
	*Objects
	s *server

	mu   sync.Mutex
	told []string
}

// withObjects runs f in a bubble, which fails if a goroutine outlives it.
func withObjects(t *testing.T, f func(w *objectWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &objectWorld{T: t, s: newServer(t)}
		w.Objects = w.s.client().NewObjects(func(uid pod.UID) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, string(uid))
		})
		f(w)
		w.Stop()
		if open := w.s.openWatches(); open > 0 {
			t.Errorf("%d watches are open after the end", open)
		}
	})
}

func (w *objectWorld) expectTold(want ...string) {
	w.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		w.Errorf("told %q, want %q", w.told, want)
	}
	w.told = nil
}

// send sends an event to the watch on an object.
func (w *objectWorld) send(resource, name string, kind watch.EventType, o k8sruntime.Object) {
	w.Helper()
	synctest.Wait()
	send(w.s.open(watchOf(resource, name)), kind, o)
	synctest.Wait()
}

func (w *objectWorld) expectOpen(want int) {
	w.Helper()
	synctest.Wait()
	if open := w.s.openWatches(); open != want {
		w.Errorf("%d watches are open, want %d", open, want)
	}
}

// read returns the value of an object, or the error, after at most a second.
func (w *objectWorld) read(kind, name string) string {
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	if kind == kindSecret {
		s, err := w.Secret(ctx, "ns", name)
		if err != nil {
			return err.Error()
		}
		if s.ManagedFields != nil {
			w.Error("managed fields were kept")
		}
		return string(s.Data["k"])
	}
	m, err := w.ConfigMap(ctx, "ns", name)
	if err != nil {
		return err.Error()
	}
	return m.Data["k"]
}

func (w *objectWorld) expect(kind, name, want string) {
	w.Helper()
	if got := w.read(kind, name); got != want {
		w.Errorf("%s %s is %q, want %q", kind, name, got, want)
	}
}

func TestObjectsAreKept(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.list(configMapOf("a", "1", "one"), configMapOf("b", "1", "not asked for"), secretOf("a", "1", "hidden"))
		w.Register("p", "ns", []string{"a", "later"}, []string{"a"})
		w.Register("q", "ns", []string{"a"}, nil)
		w.expect(kindConfigMap, "a", "one")
		w.expect(kindSecret, "a", "hidden")
		w.expect(kindConfigMap, "later", `configmap "later" not found`)
		synctest.Wait()
		slices.Sort(w.told)
		w.expectTold("p", "p", "q")
		w.expectOpen(3)
		if requests := w.s.take(); len(requests) > 0 {
			t.Errorf("%d calls besides the watches", len(requests))
		}

		w.send("configmaps", "a", watch.Modified, configMapOf("a", "2", "two"))
		w.expectTold("p", "q")
		w.expect(kindConfigMap, "a", "two")
		w.send("configmaps", "a", watch.Modified, configMapOf("a", "2", "two"))
		w.expectTold()
		w.send("secrets", "a", watch.Deleted, secretOf("a", "3", "hidden"))
		w.expectTold("p")
		w.expect(kindSecret, "a", `secret "a" not found`)
		w.send("secrets", "a", watch.Added, secretOf("a", "4", "again"))
		w.send("configmaps", "later", watch.Added, configMapOf("later", "5", "now"))
		w.expectTold("p", "p")
		w.expect(kindSecret, "a", "again")
		w.expect(kindConfigMap, "later", "now")
	})
}

func TestNotFoundIsTold(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.Register("p", "ns", []string{"a"}, nil)
		for what, registered := range map[string]string{"registered": "a", "not registered": "b"} {
			if _, err := w.ConfigMap(w.Context(), "ns", registered); !apierrors.IsNotFound(err) ||
				err.Error() != `configmap "`+registered+`" not found` {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := w.Secret(w.Context(), "ns", "b"); !apierrors.IsNotFound(err) || err.Error() != `secret "b" not found` {
			t.Errorf("%v", err)
		}
	})
}

// What no pod was registered with is fetched.
func TestUnregisteredObjectIsFetched(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.answer("GET /api/v1/namespaces/ns/secrets/a", http.StatusOK, secretOf("a", "1", "x"))
		w.s.answer("GET /api/v1/namespaces/ns/configmaps/a", http.StatusOK, configMapOf("a", "1", "y"))
		w.expect(kindConfigMap, "a", "y")
		s, err := w.Secret(w.Context(), "ns", "a")
		if err != nil || string(s.Data["k"]) != "x" {
			t.Errorf("%v %v", s, err)
		}
		w.s.answer("GET /api/v1/namespaces/ns/secrets/a", http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden))
		if _, err := w.Secret(w.Context(), "ns", "a"); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "getting secret ns/a: ") {
			t.Errorf("%v, want it to be Forbidden", err)
		}
		w.expectOpen(0)
	})
}

// However many pods refer to an object, there is one watch on it.
func TestOneWatchAnObject(t *testing.T) {
	const pods, secrets = 500, 20
	withObjects(t, func(w *objectWorld) {
		before := runtime.NumGoroutine()
		var names []string
		for i := range secrets {
			names = append(names, fmt.Sprint("s", i))
			w.s.list(append(w.s.objects, secretOf(names[i], "1", "x"))...)
		}
		for i := range pods {
			w.Register(pod.UID(fmt.Sprint("p", i)), "ns", nil, names)
		}
		w.expectOpen(secrets)
		if w.s.opened != secrets {
			t.Errorf("%d watches were opened, want %d", w.s.opened, secrets)
		}
		if n := (runtime.NumGoroutine() - before) / secrets; n > 4 {
			t.Errorf("%d goroutines for each watch", n)
		}
		w.told = nil
		w.send("secrets", "s7", watch.Modified, secretOf("s7", "2", "y"))
		synctest.Wait()
		slices.Sort(w.told)
		if len(w.told) != pods || len(slices.Compact(w.told)) != pods {
			t.Errorf("%d pods were told, want each of %d once", len(w.told), pods)
		}

		for i := range pods - 1 {
			w.Unregister(pod.UID(fmt.Sprint("p", i)))
		}
		time.Sleep(time.Hour)
		w.expectOpen(secrets)
		// A pod that is replaced keeps the watches open.
		w.Unregister(pod.UID(fmt.Sprint("p", pods-1)))
		time.Sleep(objectLinger - time.Second)
		w.expectOpen(secrets)
		opened := w.s.opened
		w.Register("next", "ns", nil, names)
		time.Sleep(2 * objectLinger)
		w.expectOpen(secrets)
		if w.s.opened != opened {
			t.Errorf("%d watches were opened again", w.s.opened-opened)
		}
		w.Unregister("next")
		w.Unregister("next")
		time.Sleep(objectLinger)
		w.expectOpen(0)
		if len(w.objects) > 0 || len(w.pods) > 0 {
			t.Errorf("%d objects and %d pods are kept", len(w.objects), len(w.pods))
		}
		if n := runtime.NumGoroutine(); n > before {
			t.Errorf("%d goroutines, %d before", n, before)
		}
	})
}

// A pod's newest registration counts.
func TestRegisterReplaces(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.Register("p", "ns", []string{"a", "b"}, []string{"a"})
		w.expectOpen(3)
		w.Register("p", "ns", []string{"b", "c"}, nil)
		w.expectOpen(4)
		time.Sleep(objectLinger)
		w.expectOpen(2)
		w.send("configmaps", "c", watch.Added, configMapOf("c", "1", "x"))
		w.expectTold("p")
		w.Register("p", "ns", nil, nil)
		time.Sleep(objectLinger)
		w.expectOpen(0)
		if len(w.pods) > 0 {
			t.Error("a pod that refers to nothing is kept")
		}
	})
}

func TestImmutableObjectIsNotFollowed(t *testing.T) {
	yes := true
	withObjects(t, func(w *objectWorld) {
		m, s := configMapOf("a", "1", "x"), secretOf("a", "1", "y")
		s.Immutable = &yes
		w.s.list(m, s)
		w.Register("p", "ns", []string{"a"}, []string{"a"})
		w.expectTold("p", "p")
		w.expectOpen(1)
		m = configMapOf("a", "2", "z")
		m.Immutable = &yes
		w.send("configmaps", "a", watch.Modified, m)
		w.expectTold("p")
		w.expectOpen(0)
		opened := w.s.opened
		time.Sleep(2 * time.Hour)
		w.Register("q", "ns", []string{"a"}, []string{"a"})
		w.expect(kindConfigMap, "a", "z")
		w.expect(kindSecret, "a", "y")
		if w.s.opened != opened || len(w.s.take()) > 0 {
			t.Error("what cannot change was asked for again")
		}
		w.Unregister("p")
		w.Unregister("q")
		time.Sleep(objectLinger)
		synctest.Wait()
		// Made again by now, perhaps.
		w.s.list(configMapOf("a", "9", "new"))
		w.Register("r", "ns", []string{"a"}, nil)
		w.expect(kindConfigMap, "a", "new")
	})
}

// The Node authorizer may learn of a binding after the node.
func TestForbiddenIsTriedAgain(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.list(secretOf("a", "1", "x"))
		w.s.refuseWith(func(*http.Request) (*http.Response, error) {
			return response(http.StatusForbidden, failure(http.StatusForbidden, metav1.StatusReasonForbidden)), nil
		})
		w.Register("p", "ns", nil, []string{"a"})
		ctx, cancel := context.WithTimeout(w.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := w.Secret(ctx, "ns", "a")
		if !apierrors.IsForbidden(err) || !strings.HasPrefix(err.Error(), "failed to sync secret cache: ") {
			t.Errorf("%v, want why it could not be read", err)
		}
		w.expectTold()
		w.s.refuseWith(nil)
		// It waits.
		w.expect(kindSecret, "a", "x")
		w.expectTold("p")
	})
}

// While the API server is away, what was known is in use; when it is back,
// what has changed meanwhile is told.
func TestLastKnownStaysInUse(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.list(configMapOf("a", "1", "x"))
		w.Register("p", "ns", []string{"a"}, nil)
		w.expectTold("p")
		w.s.refuseWith(func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		w.s.open(watchOf("configmaps", "a")).Close()
		time.Sleep(time.Hour)
		w.expect(kindConfigMap, "a", "x")
		w.expectTold()

		// Another one cannot be read yet.
		w.Register("q", "ns", []string{"b"}, nil)
		start := time.Now()
		if got := w.read(kindConfigMap, "b"); !strings.HasPrefix(got, "failed to sync configmap cache: ") ||
			!strings.Contains(got, "connection refused") || time.Since(start) != time.Second {
			t.Errorf("%s after %v", got, time.Since(start))
		}

		w.s.list(configMapOf("a", "2", "y"))
		w.s.refuseWith(nil)
		time.Sleep(2 * time.Minute)
		w.expectTold("p")
		w.expect(kindConfigMap, "a", "y")
		w.expect(kindConfigMap, "b", `configmap "b" not found`)
	})
}

// A list that was lost on the way to the watch is made up for.
func TestObjectsOfServerWithoutWatchList(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.refuseWith(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("sendInitialEvents") != "" {
				return response(http.StatusUnprocessableEntity, failure(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid)), nil
			}
			return nil, nil
		})
		w.s.answer("GET /api/v1/namespaces/ns/secrets", http.StatusOK, &v1.SecretList{TypeMeta: typeMeta("SecretList"),
			ListMeta: metav1.ListMeta{ResourceVersion: "7"}, Items: []v1.Secret{*secretOf("a", "3", "x")}})
		w.Register("p", "ns", nil, []string{"a"})
		w.expect(kindSecret, "a", "x")
		for _, r := range w.s.take() {
			if got := r.URL.Query().Get("fieldSelector"); got != "metadata.name=a" {
				t.Errorf("a list of %q", got)
			}
		}
		w.send("secrets", "a", watch.Modified, secretOf("a", "8", "y"))
		w.expectTold("p", "p")
		w.expect(kindSecret, "a", "y")
	})
}

// Who waits for an object does not wait for ever.
func TestWaitingEnds(t *testing.T) {
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	for name, end := range map[string]func(w *objectWorld, cancel func()){
		"with the context":  func(_ *objectWorld, cancel func()) { cancel() },
		"with the last pod": func(w *objectWorld, _ func()) { w.Unregister("p"); time.Sleep(objectLinger) },
		"with a stop":       func(w *objectWorld, _ func()) { w.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			withObjects(t, func(w *objectWorld) {
				w.s.refuseWith(hang)
				w.Register("p", "ns", nil, []string{"a"})
				ctx, cancel := context.WithCancel(w.Context())
				defer cancel()
				var err error
				done := make(chan struct{})
				go func() { _, err = w.Secret(ctx, "ns", "a"); close(done) }()
				synctest.Wait()
				end(w, cancel)
				synctest.Wait()
				select {
				case <-done:
					if !errors.Is(err, context.Canceled) || apierrors.IsNotFound(err) {
						t.Errorf("%v", err)
					}
				default:
					t.Error("it still waits")
					cancel()
					<-done
				}
			})
		})
	}
}

// An end does not wait for a server that is away.
func TestStopIsQuick(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.list(secretOf("a", "1", "x"))
		w.Register("p", "ns", nil, []string{"a"})
		w.expect(kindSecret, "a", "x")
		w.Register("q", "ns", nil, []string{"lingers"})
		w.Unregister("q")
		w.s.refuseWith(func(*http.Request) (*http.Response, error) { return nil, syscall.ECONNREFUSED })
		w.s.open(watchOf("secrets", "a")).Close()
		time.Sleep(10 * time.Minute)
		start := time.Now()
		w.Stop()
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %v", took)
		}
		w.expect(kindSecret, "a", "x")
		w.Register("r", "ns", nil, []string{"b"})
		if w.objects[objectKey{kindSecret, "ns", "b"}] != nil {
			t.Error("it follows an object after its end")
		}
		time.Sleep(time.Minute)
		w.expectOpen(0)
	})
}

// Each of an object's last pods is waited for anew.
func TestLingerBeginsAnew(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.Register("p", "ns", nil, []string{"a"})
		w.Unregister("p")
		time.Sleep(objectLinger / 2)
		w.Register("q", "ns", nil, []string{"a"})
		w.Unregister("q")
		time.Sleep(objectLinger/2 + time.Second)
		w.expectOpen(1)
		time.Sleep(objectLinger / 2)
		w.expectOpen(0)
	})
}

// What is known does not need time to be read.
func TestReadWithoutTime(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		w.s.list(secretOf("a", "1", "x"))
		w.Register("p", "ns", []string{"b"}, []string{"a"})
		synctest.Wait()
		ctx, cancel := context.WithCancel(w.Context())
		cancel()
		for range 20 {
			if s, err := w.Secret(ctx, "ns", "a"); err != nil || string(s.Data["k"]) != "x" {
				t.Fatalf("%v %v", s, err)
			}
			if _, err := w.ConfigMap(ctx, "ns", "b"); !apierrors.IsNotFound(err) {
				t.Fatal(err)
			}
		}
	})
}

// Everything at once, for the race detector; at the end nothing is left.
func TestObjectsConcurrently(t *testing.T) {
	withObjects(t, func(w *objectWorld) {
		var names []string
		for i := range 10 {
			names = append(names, fmt.Sprint("s", i))
			w.s.list(append(w.s.objects, secretOf(names[i], "1", "x"))...)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for range 200 {
					uid := pod.UID(fmt.Sprint("p", random.IntN(20)))
					switch random.IntN(5) {
					case 0:
						w.Unregister(uid)
					case 1, 2:
						from := random.IntN(len(names))
						w.Register(uid, "ns", nil, names[from:from+random.IntN(len(names)-from)])
					case 3:
						if got := w.read(kindSecret, names[random.IntN(len(names))]); got != "x" && !strings.Contains(got, "not found") {
							t.Errorf("got %q", got)
						}
					case 4:
						time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
					}
				}
			})
		}
		all.Wait()
		for i := range 20 {
			w.Unregister(pod.UID(fmt.Sprint("p", i)))
		}
		time.Sleep(objectLinger)
		w.expectOpen(0)
		if len(w.objects) > 0 || len(w.pods) > 0 {
			t.Errorf("%d objects and %d pods are kept", len(w.objects), len(w.pods))
		}
	})
}
