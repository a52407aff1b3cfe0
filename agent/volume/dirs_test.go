//go:build linux

package volume

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"nodelet/agent/pod"
)

// world is what a Manager under test stands on.
type world struct {
	t    *testing.T
	root string
	dirs *Dirs
	*Manager

	mu         sync.Mutex
	configMaps map[string]*v1.ConfigMap
	secrets    map[string]*v1.Secret
	reads      map[string]int
	// requests are those for tokens; life is theirs.
	requests []*authenticationv1.TokenRequest
	life     time.Duration
	tokenErr error
	events   []pod.Event
}

// newWorld has directories of its own. Whatever is mounted there is unmounted at
// the test's end.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts and owners")
	}
	root := filepath.Join(t.TempDir(), "kubelet")
	w := &world{t: t, root: root, configMaps: map[string]*v1.ConfigMap{}, secrets: map[string]*v1.Secret{}, reads: map[string]int{},
		life: time.Hour}
	t.Cleanup(func() {
		mounts, err := mountsBelow(root)
		if err != nil {
			t.Error(err)
		}
		for _, m := range mounts {
			if err := detach(m); err != nil {
				t.Error(err)
			}
		}
	})
	w.restart()
	return w
}

// restart has a new agent take over.
func (w *world) restart() {
	w.dirs = NewDirs(w.root, slog.New(slog.DiscardHandler))
	w.Manager = w.manager(w.dirs)
}

func (w *world) manager(store Store) *Manager {
	return New(Config{SyncPeriod: time.Minute}, Deps{Objects: w, Tokens: w, Store: store,
		Node: func() *v1.Node {
			return &v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"zone": "a"}}, Status: v1.NodeStatus{
				Allocatable: v1.ResourceList{v1.ResourceCPU: resource.MustParse("4"), v1.ResourceMemory: resource.MustParse("1Gi")}}}
		},
		Event: func(e pod.Event) { w.mu.Lock(); w.events = append(w.events, e); w.mu.Unlock() },
		Rand:  rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.DiscardHandler)})
}

func (w *world) ConfigMap(_ context.Context, namespace, name string) (*v1.ConfigMap, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads["configmap/"+name]++
	if o, ok := w.configMaps[name]; ok && namespace == "ns" {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "configmaps"}, name)
}

func (w *world) Secret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reads["secret/"+name]++
	if o, ok := w.secrets[name]; ok && namespace == "ns" {
		return o, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

func (w *world) CreateToken(_ context.Context, namespace, account string, r *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r)
	if w.tokenErr != nil {
		return nil, w.tokenErr
	}
	answer := r.DeepCopy()
	answer.Status.Token = namespace + "/" + account + "#" + string(rune('0'+len(w.requests)))
	seconds := int64(w.life / time.Second)
	answer.Spec.ExpirationSeconds = &seconds
	answer.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(w.life))
	return answer, nil
}

// locked changes what Objects and Tokens say.
func (w *world) locked(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// setConfigMap makes or changes a config map of "key=value" pairs.
func (w *world) setConfigMap(name string, pairs ...string) *v1.ConfigMap {
	o := &v1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Data: pairsOf(pairs)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.configMaps[name] = o
	return o
}

func (w *world) setSecret(name string, pairs ...string) *v1.Secret {
	o := &v1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Data: map[string][]byte{}}
	for k, v := range pairsOf(pairs) {
		o.Data[k] = []byte(v)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[name] = o
	return o
}

func pairsOf(pairs []string) map[string]string {
	m := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		m[k] = v
	}
	return m
}

// podOf is a pod of a spec in YAML.
func podOf(t testing.TB, spec string) *v1.Pod {
	t.Helper()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: types.UID("uid-1"),
		Labels: map[string]string{"b": "2", "a": `1"`}}}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	if len(p.Spec.Containers) == 0 {
		p.Spec.Containers = []v1.Container{{Name: "c"}}
	}
	// All volumes are used, and be it as a device.
	for _, v := range p.Spec.Volumes {
		if c := &p.Spec.Containers[0]; !isUsed(p, v.Name) {
			c.VolumeDevices = append(c.VolumeDevices, v1.VolumeDevice{Name: v.Name})
		}
	}
	return p
}

func (w *world) mount(p *v1.Pod) {
	w.t.Helper()
	if err := w.Mount(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) dir(rel string) string { return filepath.Join(w.root, "pods/uid-1", rel) }

// vol is a volume's directory by kind/name.
func (w *world) vol(kindName string) string {
	return w.dir("volumes/kubernetes.io~" + kindName)
}

// tree is what a directory holds as a reader sees it: path=content, links
// followed, the agent's own names left out.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var lines []string
	var walk func(rel string)
	walk = func(rel string) {
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			p := filepath.Join(rel, e.Name())
			info, err := os.Stat(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(p)
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, p))
			if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, p+"="+string(data))
		}
	}
	walk("")
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

func (w *world) expect(kindName, want string) {
	w.t.Helper()
	if got := tree(w.t, w.vol(kindName)); got != want {
		w.t.Errorf("%s holds %q, want %q", kindName, got, want)
	}
}

func (w *world) expectGone() {
	w.t.Helper()
	if _, err := os.Lstat(w.dir("")); !errors.Is(err, fs.ErrNotExist) {
		w.t.Errorf("the pod's directory is still there: %v", err)
	}
}

const everyKind = `
serviceAccountName: sa
containers:
- name: c
  resources: {limits: {memory: 64Mi}}
  volumeMounts:
  - {name: work, mountPath: /work}
  - {name: work, mountPath: /sub, subPath: a/b}
  - {name: config, mountPath: /config}
  - {name: config, mountPath: /one, subPath: k1}
volumes:
- {name: work, emptyDir: {}}
- {name: ram, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: host, hostPath: {path: /}}
- {name: config, configMap: {name: cm}}
- {name: secret, secret: {secretName: s, defaultMode: 0400}}
- name: down
  downwardAPI:
    items:
    - {path: labels, fieldRef: {fieldPath: metadata.labels}}
    - {path: limits/mem, resourceFieldRef: {containerName: c, resource: limits.memory, divisor: 1Mi}}
- name: all
  projected:
    sources:
    - serviceAccountToken: {path: token, expirationSeconds: 3600}
    - configMap: {name: cm, items: [{key: k1, path: ca/crt, mode: 0600}]}
    - secret: {name: s}
    - downwardAPI: {items: [{path: ns, fieldRef: {fieldPath: metadata.namespace}}]}
`

func TestEveryKind(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	w.setSecret("s", "pass=word")
	p := podOf(t, everyKind)
	for range 2 {
		w.mount(p)
		w.expect("configmap/config", "k1=v1 k2=v2")
		w.expect("secret/secret", "pass=word")
		w.expect("downward-api/down", "labels=a=\"1\\\"\"\nb=\"2\" limits/mem=64")
		w.expect("projected/all", "ca/crt=v1 ns=ns pass=word token=ns/sa#1")
	}
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{w.vol("empty-dir/work"), w.dir("volume-subpaths/work/c/1"), w.vol("configmap/config"), w.dir("volume-subpaths/config/c/3")} {
		if mounts[i].HostPath != want {
			t.Errorf("mount %d: %+v, want %s", i, mounts[i], want)
		}
	}
	if err := w.Unmount(t.Context(), "uid-1"); err != nil {
		t.Fatal(err)
	}
	if err := w.Remove(t.Context(), "uid-1"); err != nil {
		t.Fatal(err)
	}
	w.expectGone()
}
