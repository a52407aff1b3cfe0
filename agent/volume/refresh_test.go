//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// inTime plays f beside a running Manager of simulated volumes, in a bubble of
// its own time.
func inTime(t *testing.T, f func(t *testing.T, w *world, s *Memory)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, configMaps: map[string]*v1.ConfigMap{}, secrets: map[string]*v1.Secret{}, reads: map[string]int{}, life: time.Hour}
		store := NewMemory()
		w.Manager = w.manager(store)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { w.Run(ctx) })
		f(t, w, store)
		cancel()
		running.Wait()
	})
}

func (w *world) shows(s *Memory, file, want string) {
	w.t.Helper()
	synctest.Wait()
	volume, name, _ := strings.Cut(file, "/")
	got, err := s.ReadFile("uid-1", volume, name)
	if err != nil {
		got = "error"
	}
	if got != want {
		w.t.Errorf("%v: %s holds %q, want %q", time.Now().Format(time.TimeOnly), file, got, want)
	}
}

// told are the events so far.
func (w *world) told() []pod.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

func TestRefreshByItself(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.setConfigMap("cm", "k=1")
		w.mount(podOf(t, filesPod))
		w.setConfigMap("cm", "k=2")
		time.Sleep(59 * time.Second)
		w.shows(s, "config/k", "1")
		time.Sleep(32 * time.Second)
		w.shows(s, "config/k", "2")
		w.setConfigMap("cm", "k=3")
		time.Sleep(91 * time.Second)
		w.shows(s, "config/k", "3")
		// As rarely as that: an hour has at most 60 periods.
		w.locked(func() { w.reads = map[string]int{} })
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.reads["configmap/cm"]; n < 40 || n > 60 {
			t.Errorf("read %d times in an hour", n)
		}
	})
}

func TestRefreshAtOnce(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.setConfigMap("cm", "k=1")
		w.ObjectChanged("uid-1")
		w.mount(podOf(t, filesPod))
		w.setConfigMap("cm", "k=2")
		w.ObjectChanged("other")
		w.shows(s, "config/k", "1")
		w.ObjectChanged("uid-1")
		w.shows(s, "config/k", "2")
		// That was not instead of the next period.
		w.setConfigMap("cm", "k=3")
		time.Sleep(91 * time.Second)
		w.shows(s, "config/k", "3")
	})
}

func TestRefreshFails(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.setConfigMap("cm", "k=1")
		w.mount(podOf(t, filesPod))
		w.locked(func() { delete(w.configMaps, "cm") })
		w.ObjectChanged("uid-1")
		w.shows(s, "config/k", "1")
		const want = `MountVolume.SetUp failed for volume "config" : configmap "cm" not found`
		if len(w.told()) != 1 || w.told()[0].Reason != "FailedMount" || w.told()[0].Type != v1.EventTypeWarning || w.told()[0].Message != want {
			t.Errorf("events %+v", w.told())
		}
		w.setConfigMap("cm", "k=2")
		time.Sleep(91 * time.Second)
		w.shows(s, "config/k", "2")
		if len(w.told()) != 1 {
			t.Errorf("events %+v", w.told())
		}
	})
}

const downwardPod = `
containers: [{name: c, resources: {limits: {cpu: 1}}}]
volumes:
- name: d
  downwardAPI:
    items:
    - {path: label, fieldRef: {fieldPath: "metadata.labels['a']"}}
    - {path: cpu, resourceFieldRef: {containerName: c, resource: limits.cpu, divisor: 1m}}
`

func TestUpdateOfPod(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		p := podOf(t, downwardPod)
		w.Update(p)
		if len(w.pods) != 0 {
			t.Error("a pod that is not mounted is known")
		}
		w.mount(p)
		w.shows(s, "d/label", `1"`)
		p = p.DeepCopy()
		p.Labels["a"] = "2"
		w.Update(p)
		w.shows(s, "d/label", "2")
		p = p.DeepCopy()
		p.Spec.Containers[0].Resources.Limits = v1.ResourceList{}
		p.Generation = 2
		w.Update(p)
		w.shows(s, "d/cpu", "4000")
		// Nothing of a pod alone changes by itself.
		if len(w.queue) != 0 {
			t.Error("the pod is refreshed in vain")
		}
		p = p.DeepCopy()
		p.Status.Phase = v1.PodRunning
		w.Update(p)
		if len(w.queue) != 0 {
			t.Error("the pod is refreshed because of its status")
		}
	})
}

// The pod changes while it is being mounted.
func TestUpdateDuringMount(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		p := podOf(t, downwardPod)
		e, err := w.take(t.Context(), "uid-1")
		must(t, err)
		done := make(chan error)
		go func() { done <- w.Mount(t.Context(), p) }()
		synctest.Wait()
		w.Manager.mu.Lock()
		e.pod = p
		w.Manager.mu.Unlock()
		changed := p.DeepCopy()
		changed.Labels["a"] = "2"
		slow := slowStore{s, func() { w.Update(changed) }}
		w.Store = slow
		e.leave()
		must(t, <-done)
		w.shows(s, "d/label", "2")
	})
}

// slowStore calls during while a volume is being set up.
type slowStore struct {
	*Memory
	during func()
}

func (s slowStore) SetUp(v *Volume) error { s.during(); return s.Memory.SetUp(v) }

func TestImmutableIsReadOnce(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		yes := true
		w.setConfigMap("cm", "k=1").Immutable = &yes
		w.setSecret("s", "k=1").Immutable = &yes
		w.setSecret("mutable", "k=1")
		p := podOf(t, `
containers: [{name: c}]
volumes:
- {name: config, configMap: {name: cm}}
- {name: s, secret: {secretName: s}}
- {name: m, secret: {secretName: mutable}}
`)
		w.mount(p)
		w.locked(func() { delete(w.configMaps, "cm") })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if w.reads["configmap/cm"] != 1 || w.reads["secret/s"] != 1 || w.reads["secret/mutable"] < 6 {
			t.Errorf("reads %v", w.reads)
		}
		w.shows(s, "config/k", "1")
		// Nothing is remembered beyond the pod.
		must(t, w.Unmount(t.Context(), "uid-1"))
		if err := w.Mount(t.Context(), p); err == nil {
			t.Error("mounted what is gone")
		}
	})
}

const tokenPod = `
serviceAccountName: sa
containers: [{name: c}]
volumes:
- name: t
  projected:
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - serviceAccountToken: {path: vault, audience: vault, expirationSeconds: 3600}
- name: again
  projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3600}}]}
`

func TestTokens(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.mount(podOf(t, tokenPod))
		if len(w.requests) != 2 {
			t.Fatalf("%d tokens were asked for", len(w.requests))
		}
		for i, audience := range []string{"", "vault"} {
			spec := w.requests[i].Spec
			if strings.Join(spec.Audiences, ",") != audience || *spec.ExpirationSeconds != 3600 {
				t.Errorf("asked for %+v", spec)
			}
			if b := spec.BoundObjectRef; b == nil || b.Kind != "Pod" || b.APIVersion != "v1" || b.Name != "p" || b.UID != "uid-1" {
				t.Errorf("bound to %+v", b)
			}
		}
		w.shows(s, "t/token", "ns/sa#1")
		w.shows(s, "t/vault", "ns/sa#2")
		w.shows(s, "again/token", "ns/sa#1")
		// At 80 %, give or take the jitter and the period.
		time.Sleep(48*time.Minute - 11*time.Second)
		w.shows(s, "t/token", "ns/sa#1")
		time.Sleep(2 * time.Minute)
		w.shows(s, "t/token", "ns/sa#3")
		w.shows(s, "again/token", "ns/sa#3")
		if len(w.requests) != 4 {
			t.Errorf("%d tokens were asked for", len(w.requests))
		}
	})
}

func TestLongTokenIsRenewedDaily(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.life = 365 * 24 * time.Hour
		w.mount(podOf(t, tokenPod))
		time.Sleep(24*time.Hour - 11*time.Second)
		w.shows(s, "t/token", "ns/sa#1")
		time.Sleep(2 * time.Minute)
		w.shows(s, "t/token", "ns/sa#3")
	})
}

func TestTokenCannotBeRenewed(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.mount(podOf(t, tokenPod))
		w.locked(func() { w.tokenErr = errors.New("no") })
		time.Sleep(59 * time.Minute)
		w.shows(s, "t/token", "ns/sa#1")
		if len(w.told()) != 0 {
			t.Errorf("events %v", w.told())
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if len(w.told()) == 0 || w.told()[0].Message != `MountVolume.SetUp failed for volume "t" : [token expired and refresh failed: no, token expired and refresh failed: no]` &&
			w.told()[0].Message != `MountVolume.SetUp failed for volume "t" : token expired and refresh failed: no` {
			t.Errorf("events %v", w.told())
		}
		w.locked(func() { w.tokenErr, w.requests = nil, nil })
		time.Sleep(91 * time.Second)
		w.shows(s, "t/token", "ns/sa#1")

		w.locked(func() { w.tokenErr = errors.New("no") })
		other := podOf(t, tokenPod)
		other.UID = "other"
		if err := w.Mount(t.Context(), other); err == nil || !strings.Contains(err.Error(), "failed to fetch token: no") {
			t.Errorf("error %v", err)
		}
	})
}

func TestSources(t *testing.T) {
	for name, test := range map[string]struct{ volume, want, err string }{
		"all keys":            {`configMap: {name: cm}`, "bin=\xff k1=v1 k2=v2", ""},
		"items":               {`configMap: {name: cm, items: [{key: k1, path: a/b}, {key: bin, path: c}]}`, "a/b=v1 c=\xff", ""},
		"missing key":         {`configMap: {name: cm, items: [{key: none, path: a}]}`, "", "configmap references non-existent config key: none"},
		"optional key":        {`configMap: {name: cm, optional: true, items: [{key: none, path: a}, {key: k1, path: b}]}`, "b=v1", ""},
		"missing":             {`configMap: {name: none}`, "", `configmap "none" not found`},
		"optional":            {`configMap: {name: none, optional: true}`, "", ""},
		"secret":              {`secret: {secretName: s}`, "p=w", ""},
		"missing secret":      {`secret: {secretName: none}`, "", `secret "none" not found`},
		"optional secret":     {`secret: {secretName: none, optional: true}`, "", ""},
		"missing secret key":  {`secret: {secretName: s, items: [{key: none, path: a}]}`, "", "references non-existent secret key: none"},
		"optional secret key": {`secret: {secretName: s, optional: true, items: [{key: none, path: a}]}`, "", ""},
		"unclean path":        {`configMap: {name: cm, items: [{key: k1, path: a//b/./c}]}`, "a/b/c=v1", ""},
		"path up":             {`configMap: {name: cm, items: [{key: k1, path: a/../../b}]}`, "", `invalid path "a/../../b": it must not contain '..'`},
		"absolute path":       {`configMap: {name: cm, items: [{key: k1, path: /a}]}`, "", `invalid path "/a": it must be relative`},
		"own name":            {`configMap: {name: cm, items: [{key: k1, path: ..data}]}`, "", `invalid path "..data": it must not start with '..'`},
		"own name in key":     {`configMap: {name: evil}`, "", `invalid path "..data": it must not start with '..'`},
		"unclean own name":    {`configMap: {name: cm, items: [{key: k1, path: ./..data}]}`, "", `invalid path "./..data": it must not start with '..'`},
		"long name":           {`configMap: {name: cm, items: [{key: k1, path: ` + strings.Repeat("x", 256) + `}]}`, "", "invalid path: a name in it is longer than 255 bytes"},
		"long path":           {`configMap: {name: cm, items: [{key: k1, path: ` + strings.Repeat("x/", 2048) + `y}]}`, "", "invalid path: longer than 4096 bytes"},
		"later wins": {`projected: {sources: [{configMap: {name: cm, items: [{key: k1, path: a}]}}, {configMap: {name: cm, items: [{key: k2, path: a}]}}]}`,
			"a=v2", ""},
		"all errors":      {`projected: {sources: [{configMap: {name: none}}, {secret: {name: none}}]}`, "", `[configmap "none" not found, secret "none" not found]`},
		"trust bundle":    {`projected: {sources: [{clusterTrustBundle: {name: x, path: yy}}]}`, "", `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "x" not found`},
		"certificate":     {`projected: {sources: [{podCertificate: {signerName: x, keyType: yy}}]}`, "", "unsupported source of a projected volume: podCertificate"},
		"fields":          {`downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: u, fieldRef: {fieldPath: metadata.uid}}]}`, "name=p u=uid-1", ""},
		"bad field":       {`downwardAPI: {items: [{path: name, fieldRef: {fieldPath: spec.nodeName}}]}`, "", `field label not supported: spec.nodeName`},
		"node's resource": {`downwardAPI: {items: [{path: m, resourceFieldRef: {containerName: c, resource: limits.memory, divisor: 1Mi}}]}`, "m=1024", ""},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world, s *Memory) {
				w.setConfigMap("cm", "k1=v1", "k2=v2").BinaryData = map[string][]byte{"bin": {0xff}}
				w.setConfigMap("evil", "..data=x")
				w.setSecret("s", "p=w")
				p := podOf(t, "{containers: [{name: c}], volumes: [{name: v, "+test.volume+"}]}")
				err := w.Mount(t.Context(), p)
				if test.err != "" {
					if want := `MountVolume.SetUp failed for volume "v" : ` + test.err; err == nil || err.Error() != want {
						t.Errorf("error %v, want %s", err, want)
					}
					return
				}
				must(t, err)
				var files []string
				for _, f := range s.volume("uid-1", "v").files {
					files = append(files, f.path+"="+f.content.Value())
				}
				if got := strings.Join(files, " "); got != test.want {
					t.Errorf("holds %q, want %q", got, test.want)
				}
			})
		})
	}
}

func TestModes(t *testing.T) {
	for volume, want := range map[string]int32{
		`configMap: {name: cm}`:                                                            0o644,
		`configMap: {name: cm, defaultMode: 0400}`:                                         0o400,
		`configMap: {name: cm, defaultMode: 0400, items: [{key: k, path: k}]}`:             0o400,
		`configMap: {name: cm, items: [{key: k, path: k, mode: 0444}]}`:                    0o444,
		`downwardAPI: {items: [{path: k, fieldRef: {fieldPath: metadata.name}}]}`:          0o644,
		`downwardAPI: {items: [{path: k, mode: 1, fieldRef: {fieldPath: metadata.name}}]}`: 1,
		`projected: {defaultMode: 0440, sources: [{configMap: {name: cm}}]}`:               0o440,
	} {
		w := &world{t: t, configMaps: map[string]*v1.ConfigMap{}, reads: map[string]int{}}
		w.setConfigMap("cm", "k=v")
		p := podOf(t, "{containers: [{name: c}], volumes: [{name: v, "+volume+"}]}")
		files, err := w.manager(NewMemory()).files(t.Context(), &entry{}, p, &p.Spec.Volumes[0])
		if err != nil || files["k"].Mode != want {
			t.Errorf("%s: mode %#o, %v, want %#o", volume, files["k"].Mode, err, want)
		}
	}
}

// While one pod waits for the API server, others go on; who waits for its turn
// gives up when its time is over.
func TestPodsDoNotWaitForEachOther(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		p := podOf(t, filesPod)
		w.setConfigMap("cm", "k=1")
		blocked, other := make(chan struct{}), p.DeepCopy()
		other.UID = "other"
		w.Store = slowStore{s, func() { <-blocked }}
		go func() { _ = w.Mount(t.Context(), p) }()
		synctest.Wait()
		w.Store = s
		must(t, w.Mount(t.Context(), other))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Unmount(ctx, "uid-1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		close(blocked)
		must(t, w.Unmount(t.Context(), "uid-1"))
	})
}

// No more than a few pods are refreshed at a time, and all of them are.
func TestManyPodsChange(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		w.setConfigMap("cm", "k=1")
		const pods = 100
		for i := range pods {
			p := podOf(t, filesPod)
			p.UID = types.UID(fmt.Sprint("u", i))
			w.mount(p)
		}
		w.setConfigMap("cm", "k=2")
		var mu sync.Mutex
		now, most := 0, 0
		w.Store = slowStore{s, func() {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
		}}
		for i := range pods {
			w.ObjectChanged(pod.UID(fmt.Sprint("u", i)))
		}
		time.Sleep(pods / maxRefreshing * time.Second)
		synctest.Wait()
		for i := range pods {
			if got, _ := s.ReadFile(pod.UID(fmt.Sprint("u", i)), "config", "k"); got != "2" {
				t.Errorf("pod %d shows %q", i, got)
			}
		}
		if most != maxRefreshing {
			t.Errorf("%d were refreshed at a time", most)
		}
	})
}

// Everybody at once; for the race detector.
func TestConcurrently(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	w.setSecret("s", "pass=word")
	ctx, cancel := context.WithCancel(t.Context())
	var running, calls sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	for i := range 4 {
		p := podOf(t, everyKind)
		p.UID = types.UID(fmt.Sprint("u", i%2))
		uid := pod.UID(p.UID)
		calls.Go(func() {
			for n := range 10 {
				if err := w.Mount(ctx, p); err != nil {
					t.Error(err)
				}
				_, _ = w.Mounts(p, &p.Spec.Containers[0], nil)
				changed := p.DeepCopy()
				changed.Labels["n"] = fmt.Sprint(n)
				w.Update(changed)
				w.ObjectChanged(uid)
				_, _ = w.File(uid, "etc-hosts", []byte("x"))
				w.Orphans()
				if err := w.Remove(ctx, uid); err != nil {
					t.Error(err)
				}
			}
		})
	}
	calls.Wait()
	cancel()
	running.Wait()
	if len(w.pods) != 0 || len(w.queue) != 0 || len(w.Orphans()) != 0 {
		t.Errorf("left are %d pods, %d in the queue, directories of %q", len(w.pods), len(w.queue), w.Orphans())
	}
}
