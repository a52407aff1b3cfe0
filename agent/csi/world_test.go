//go:build linux

package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/version"

	"nodelet/agent/pod"
	"nodelet/internal/csitest"
)

const (
	nodeName   = "n1"
	driverName = "test.csi.nodelet"
	handle     = "vol-1"
	stages     = spec.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME
	setsGroup  = spec.NodeServiceCapability_RPC_VOLUME_MOUNT_GROUP
	severalW   = spec.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER
)

// world is what a Manager under test stands on: a driver, and an API server that
// only remembers.
type world struct {
	t    *testing.T
	root string
	*Manager
	// end ends the Manager's Run.
	end func()

	mu          sync.Mutex
	node        *v1.Node
	csiNode     *storage.CSINode
	drivers     map[string]*storage.CSIDriver
	attachments map[string]*storage.VolumeAttachment
	secrets     map[string]*v1.Secret
	tokens      []string
	// down is what the API server answers, if not nil.
	down     error
	versions int
	reports  int
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	// A unix socket's path is short.
	root, err := os.MkdirTemp("", "csi")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, root: root,
		node:    &v1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName, UID: "node-1"}},
		drivers: map[string]*storage.CSIDriver{}, attachments: map[string]*storage.VolumeAttachment{}, secrets: map[string]*v1.Secret{}}
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() {
		// All that ran was ended by the clean-ups after this one.
		w.eventually("no goroutine is left", func() error {
			if n := runtime.NumGoroutine(); n > goroutines {
				return fmt.Errorf("%d, %d before", n, goroutines)
			}
			return nil
		})
		for _, m := range w.mounts() {
			if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	w.restart()
	return w
}

// restart has a new agent take over; it does not run yet.
func (w *world) restart() {
	w.t.Helper()
	config := DefaultConfig()
	config.NodeName, config.Root = nodeName, w.root
	config.DriverPatience, config.AttachPatience, config.CallTimeout = 50*time.Millisecond, 50*time.Millisecond, 5*time.Second
	w.Manager = New(config, Deps{API: w, Node: w.known, Report: func() { w.mu.Lock(); w.reports++; w.mu.Unlock() },
		Log: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	w.end = func() {}
}

// run has the agent run, until the test's end or w.end.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m := w.Manager
	go func() { m.Run(ctx); close(done) }()
	w.end = func() { cancel(); <-done }
	w.t.Cleanup(w.end)
}

// driver starts a driver; the agent knows it without asking.
func (w *world) driver(can ...spec.NodeServiceCapability_RPC_Type) *csitest.Driver {
	w.t.Helper()
	d := csitest.Start(w.t, csitest.Config{Name: driverName, Root: w.root, Data: filepath.Join(w.root, "data"), NodeID: "id-1", Can: can})
	w.knows(d)
	return d
}

func (w *world) knows(d *csitest.Driver) {
	w.setDriver(&driver{name: driverName, endpoint: d.Socket(), version: version.MustParseGeneric("0.1")})
}

// about has the cluster know the driver; attachRequired is false.
func (w *world) about(change func(*storage.CSIDriverSpec)) {
	no, policy := false, storage.ReadWriteOnceWithFSTypeFSGroupPolicy
	d := &storage.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: driverName}, Spec: storage.CSIDriverSpec{AttachRequired: &no,
		PodInfoOnMount: &no, RequiresRepublish: &no, FSGroupPolicy: &policy,
		VolumeLifecycleModes: []storage.VolumeLifecycleMode{storage.VolumeLifecyclePersistent, storage.VolumeLifecycleEphemeral}}}
	if change != nil {
		change(&d.Spec)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drivers[driverName] = d
}

// persistent is a volume of a pod behind a claim.
func (w *world) persistent(uid string, change ...func(*v1.PersistentVolume)) *pod.CSIVolume {
	pv := &v1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-1"}, Spec: v1.PersistentVolumeSpec{
		AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
		PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: handle,
			VolumeAttributes: map[string]string{"a": "b"}}}}}
	for _, c := range change {
		c(pv)
	}
	return w.volume(&pod.CSIVolume{Name: pv.Name, Persistent: pv}, uid)
}

// inline is a volume that lives with its pod.
func (w *world) inline(uid string, change ...func(*v1.CSIVolumeSource)) *pod.CSIVolume {
	s := &v1.CSIVolumeSource{Driver: driverName, VolumeAttributes: map[string]string{"a": "b"}}
	for _, c := range change {
		c(s)
	}
	return w.volume(&pod.CSIVolume{Name: "vol", Inline: s}, uid)
}

func (w *world) volume(v *pod.CSIVolume, uid string) *pod.CSIVolume {
	v.Pod = &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p-" + uid, UID: types.UID(uid)}, Spec: v1.PodSpec{ServiceAccountName: "sa"}}
	v.Target = filepath.Join(w.volumesDir(pod.UID(uid)), v.Name, "mount")
	v.Token = func(audience string, seconds *int64) (authentication.TokenRequestStatus, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.tokens = append(w.tokens, audience)
		return authentication.TokenRequestStatus{Token: "token for " + audience, ExpirationTimestamp: metav1.Unix(1e9, 0)}, nil
	}
	return v
}

func (w *world) mustPublish(v *pod.CSIVolume) {
	w.t.Helper()
	if _, err := w.Publish(w.t.Context(), v); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustUnpublish(uid pod.UID) {
	w.t.Helper()
	if err := w.Unpublish(w.t.Context(), uid); err != nil {
		w.t.Fatal(err)
	}
}

// mounts are what is mounted below the agent's directory.
func (w *world) mounts() []string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		w.t.Fatal(err)
	}
	var found []string
	for line := range strings.Lines(string(data)) {
		if at := strings.Fields(line)[1]; strings.HasPrefix(at, w.root+"/") {
			found = append(found, at)
		}
	}
	return found
}

// wantClean expects that nothing is left of any volume.
func (w *world) wantClean() {
	w.t.Helper()
	if m := w.mounts(); len(m) > 0 {
		w.t.Errorf("still mounted: %q", m)
	}
	for _, dir := range []string{w.podsDir(), w.stagedDir()} {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && (!e.IsDir() || e.Name() == "mount" || e.Name() == "globalmount") {
				w.t.Errorf("left: %s", path)
			}
			return err
		})
		if err != nil {
			w.t.Error(err)
		}
	}
	w.Manager.mu.Lock()
	defer w.Manager.mu.Unlock()
	for key, v := range w.volumes {
		w.t.Errorf("remembered: %v %+v", key, v)
	}
}

// eventually waits until f returns nil.
func (w *world) eventually(what string, f func() error) {
	w.t.Helper()
	end := time.After(20 * time.Second)
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-end:
			w.t.Fatalf("it did not come to this: %s: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// The rest is the API server.

func (w *world) known() *v1.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.node
}

func (w *world) CurrentNode(_ context.Context, name string) (*v1.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	return w.node.DeepCopy(), nil
}

func (w *world) PatchNode(_ context.Context, old, next *v1.Node) (*v1.Node, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	w.node = next.DeepCopy()
	return next, nil
}

var csiNodes = schema.GroupResource{Group: "storage.k8s.io", Resource: "csinodes"}

func (w *world) CSINode(_ context.Context, name string) (*storage.CSINode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	if w.csiNode == nil {
		return nil, fmt.Errorf("getting: %w", apierrors.NewNotFound(csiNodes, name))
	}
	return w.csiNode.DeepCopy(), nil
}

func (w *world) CreateCSINode(_ context.Context, n *storage.CSINode) (*storage.CSINode, error) {
	return w.write(n, w.csiNode != nil)
}

func (w *world) UpdateCSINode(_ context.Context, n *storage.CSINode) (*storage.CSINode, error) {
	return w.write(n, w.csiNode == nil || w.csiNode.ResourceVersion != n.ResourceVersion)
}

func (w *world) write(n *storage.CSINode, conflict bool) (*storage.CSINode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	if conflict {
		return nil, apierrors.NewConflict(csiNodes, n.Name, errors.New("changed"))
	}
	w.versions++
	w.csiNode = n.DeepCopy()
	w.csiNode.ResourceVersion = strconv.Itoa(w.versions)
	return w.csiNode.DeepCopy(), nil
}

func (w *world) DeleteCSINode(context.Context, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.csiNode = nil
	return w.down
}

func (w *world) CSIDriver(_ context.Context, name string) (*storage.CSIDriver, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down != nil {
		return nil, w.down
	}
	if d, ok := w.drivers[name]; ok {
		return d, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "storage.k8s.io", Resource: "csidrivers"}, name)
}

func (w *world) VolumeAttachment(_ context.Context, name string) (*storage.VolumeAttachment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.attachments[name]; ok {
		return a, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: "storage.k8s.io", Resource: "volumeattachments"}, name)
}

func (w *world) StorageSecret(_ context.Context, namespace, name string) (*v1.Secret, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.secrets[namespace+"/"+name]; ok {
		return s, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}
