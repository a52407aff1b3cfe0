// Package volume keeps the pods' directories and what their volumes hold.
//
// The Manager (this file) works out what belongs in each volume: setup.go sets up
// those of a pod beside each other, spec.go says what kind one is, claims.go what is behind a claim, files.go what is in a
// configMap, secret, downwardAPI or projected volume, token.go asks for service
// account tokens, trust.go for trust anchors, csi.go hands volumes to CSI drivers,
// refresh.go keeps all of it fresh. A Store puts it somewhere: Dirs into
// directories and mounts, in the kubelet's layout (dirs.go; hostpath.go has what
// lies elsewhere on the machine; write.go swaps a volume's files at once; image.go
// mounts an image; subpath.go binds a path in a volume, readonly_linux.go what no container may write
// to in any depth; usage_linux.go measures a volume; remove_linux.go takes all away),
// Memory nowhere but in memory, for simulated nodes.
package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podenv"
	"nodelet/agent/podruntime"
)

// Objects gives the config maps and secrets that volumes show. What it returns
// is not changed. An object that does not exist is a NotFound.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*v1.Secret, error)
}

// Tokens makes tokens of service accounts.
type Tokens interface {
	CreateToken(ctx context.Context, namespace, serviceAccount string, request *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
}

// Config is how the Manager behaves. The zero value is not valid.
type Config struct {
	// Root is the directory that has the pods' directories, pods/<uid>, in it.
	// It is for Dirs; Deps may bring another Store.
	Root string
	// SyncPeriod is how long what a volume shows may be stale if nobody tells
	// that it changed. Up to half is added to it, so that pods do not go together.
	SyncPeriod time.Duration
}

// DefaultConfig returns the kubelet's values.
func DefaultConfig() Config {
	return Config{Root: "/var/lib/kubelet", SyncPeriod: time.Minute}
}

// Deps is what a Manager works with.
type Deps struct {
	Objects Objects
	Tokens  Tokens
	// Claims may be nil: volumes of claims are then of kind Other.
	Claims Claims
	// TrustBundles may be nil: there are then none.
	TrustBundles TrustBundles
	// CSI has the volumes of CSI drivers; nil where there are no drivers: such
	// volumes are then of kind Other.
	CSI CSI
	// Layers tells where an image that is on the node is, as in podruntime.Image. It
	// may be nil: image volumes are then of kind Other.
	Layers func(ctx context.Context, image string) ([]string, error)
	// Node returns this node, as far as it is known.
	Node func() *v1.Node
	// Store is where volumes live; nil for directories below Config.Root.
	Store Store
	// Event gets what goes wrong with a mounted pod's volumes later on. It must
	// not wait.
	Event func(pod.Event)
	// Rand is not used by others.
	Rand *rand.Rand
	Log  *slog.Logger
}

// Manager keeps the volumes of a node's pods. All methods may be called
// concurrently; of one pod, one call is carried out at a time.
type Manager struct {
	config Config
	Deps

	wake  chan struct{}
	trust trust
	// life ends with Run, and what is being set up with it.
	life    context.Context
	endLife context.CancelFunc
	setups  sync.WaitGroup

	mu sync.Mutex
	// pods are those that have been mounted, or are being worked on.
	pods map[pod.UID]*entry
	// queue has the pods that are to be refreshed, the next first.
	queue queue
	// refreshing is how many goroutines refresh.
	refreshing int
}

// entry is what is known of one pod.
type entry struct {
	uid pod.UID
	// turn has an element while somebody works on the pod.
	turn chan struct{}

	// pod is its newest object, nil until it is mounted. This and what follows
	// is guarded by Manager.mu.
	pod *v1.Pod
	// mounted says that all volumes have been set up once.
	mounted bool
	// due is when to refresh; at is the place in the queue, less than 0 for none.
	due time.Time
	at  int
	// unused are the volumes that are set up when a container mounts them, attempts
	// those that are being set up, settled has an element when one of them has ended.
	// They are for the one whose turn it is.
	unused   []string
	attempts map[string]*attempt
	settled  chan struct{}
	// interrupt ends what is done for a pod that others need not wait for; nil if
	// nothing is.
	interrupt context.CancelFunc

	known known
}

// New returns a Manager; nothing is refreshed before Run.
func New(config Config, deps Deps) *Manager {
	if deps.Store == nil {
		deps.Store = NewDirs(config.Root, deps.Log)
	}
	m := &Manager{config: config, Deps: deps, wake: make(chan struct{}, 1), pods: map[pod.UID]*entry{}}
	m.life, m.endLife = context.WithCancel(context.Background())
	return m
}

// take waits for the turn at a pod. The entry is given back with leave.
func (m *Manager) take(ctx context.Context, uid pod.UID) (*entry, error) {
	for {
		m.mu.Lock()
		e, ok := m.pods[uid]
		if !ok {
			e = &entry{uid: uid, turn: make(chan struct{}, 1), at: -1}
			m.pods[uid] = e
		}
		m.mu.Unlock()
		select {
		case e.turn <- struct{}{}:
		default:
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case e.turn <- struct{}{}:
			}
		}
		m.mu.Lock()
		current := m.pods[uid] == e
		m.mu.Unlock()
		if current {
			return e, nil
		}
		<-e.turn
	}
}

func (e *entry) leave() { <-e.turn }

// forget drops an entry that is held.
func (m *Manager) forget(e *entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue.remove(e)
	delete(m.pods, e.uid)
}

// Mount makes the pod's directory and all that its volumes hold, and has them
// kept fresh from then on. Where that has been done before, by an agent before a
// restart as well, what is right already is not touched. Volumes that no container
// uses are left out. The error joins those that failed, each in the words of a
// FailedMount event of the kubelet; they may well be gone with the next try. Volumes
// that take longer are then still being set up, which the next try finds.
func (m *Manager) Mount(ctx context.Context, p *v1.Pod) error {
	e, err := m.take(ctx, pod.UID(p.UID))
	if err != nil {
		return err
	}
	defer e.leave()
	m.mu.Lock()
	e.pod = p
	m.mu.Unlock()
	if err := m.Store.MakePod(e.uid); err != nil {
		return fmt.Errorf("error making pod data directories: %w", err)
	}
	if err := m.setUpAll(ctx, e, p); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e.mounted = true
	m.reschedule(e, p)
	return nil
}

// Mounts returns the binds of a container's volume mounts, in their order; env
// expands their subPathExpr. The pod must have been mounted. A subPath that is
// not in its volume, even if only by way of a link, is an error.
func (m *Manager) Mounts(p *v1.Pod, c *v1.Container, env []podruntime.EnvVar) ([]podruntime.Mount, error) {
	if len(c.VolumeMounts) == 0 {
		return nil, nil
	}
	e, err := m.take(context.Background(), pod.UID(p.UID))
	if err != nil {
		return nil, err
	}
	defer e.leave()
	m.mu.Lock()
	mounted := e.mounted
	m.mu.Unlock()
	if !mounted {
		m.forgetUnmounted(e)
		return nil, fmt.Errorf("cannot find volume %q to mount into container %q", c.VolumeMounts[0].Name, c.Name)
	}
	mounts := make([]podruntime.Mount, 0, len(c.VolumeMounts))
	for i := range c.VolumeMounts {
		mount, err := m.mount(e, p, c, i, env)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (m *Manager) mount(e *entry, p *v1.Pod, c *v1.Container, index int, env []podruntime.EnvVar) (podruntime.Mount, error) {
	spec := &c.VolumeMounts[index]
	none := podruntime.Mount{}
	source := volumeOf(p, spec.Name)
	if source == nil {
		return none, fmt.Errorf("cannot find volume %q to mount into container %q", spec.Name, c.Name)
	}
	if i := slices.Index(e.unused, spec.Name); i >= 0 {
		// An ephemeral container is the first to use it, or it is an image.
		if err := m.setUp(context.Background(), e, p, source); err != nil {
			return none, err
		}
		e.unused = slices.Delete(e.unused, i, i+1)
	}
	v, err := m.volume(e, p, source)
	if err != nil {
		return none, err
	}
	readOnly, err := pod.RecursiveReadOnly(spec, m.Store.RecursiveReadOnly())
	if err != nil {
		return none, fmt.Errorf("failed to resolve recursive read-only mode: %w", err)
	}
	sub, err := subPath(spec, env)
	if err != nil {
		return none, err
	}
	hostPath, err := m.Store.HostPath(v, SubPath{Path: sub, Container: c.Name, Index: index, RecursiveReadOnly: readOnly})
	if err != nil && sub != "" {
		// The pod's owner must not learn from the reason what else is on the node.
		m.Log.Error("Failed to prepare subPath", "pod", pod.FullName(p), "container", c.Name, "volume", v.Name, "subPath", sub, "err", err)
		err = fmt.Errorf("failed to prepare subPath for volumeMount %q of container %q", spec.Name, c.Name)
	}
	if err != nil {
		return none, err
	}
	mount := podruntime.Mount{HostPath: hostPath, ContainerPath: spec.MountPath, ReadOnly: spec.ReadOnly || v.ReadOnly || v.Kind.hasFiles()}
	if v.Kind == Image {
		// It is read-only as it is. To have the engine see to that could make its
		// programs executable.
		mount.ReadOnly = false
	}
	if !path.IsAbs(mount.ContainerPath) {
		mount.ContainerPath = "/" + mount.ContainerPath
	}
	if spec.MountPropagation != nil {
		mount.Propagation = *spec.MountPropagation
	}
	return mount, nil
}

// subPath is the path below the volume that a container mounts, or "".
func subPath(spec *v1.VolumeMount, env []podruntime.EnvVar) (string, error) {
	sub := spec.SubPath
	if spec.SubPathExpr != "" {
		var err error
		if sub, err = podenv.ExpandSubPath(spec.SubPathExpr, env); err != nil {
			return "", err
		}
	}
	if path.IsAbs(sub) {
		return "", fmt.Errorf("error SubPath `%s` must not be an absolute path", sub)
	}
	if hasBackstep(sub) {
		return "", fmt.Errorf("unable to provision SubPath `%s`: must not contain '..'", sub)
	}
	return sub, nil
}

// RecursiveReadOnly reports whether a mount can be read-only with all that is mounted
// below it.
func (m *Manager) RecursiveReadOnly() bool { return m.Store.RecursiveReadOnly() }

// File writes a file of the agent's own into the pod's directory and returns
// where it is; "" where pods have no files. Nil content makes an empty file that
// anybody may write to.
func (m *Manager) File(uid pod.UID, name string, content []byte) (string, error) {
	e, err := m.take(context.Background(), uid)
	if err != nil {
		return "", err
	}
	defer e.leave()
	defer m.forgetUnmounted(e)
	return m.Store.WriteFile(uid, name, content)
}

// Unmount unmounts and removes all volumes of a pod of which no container is
// left. While anything is still mounted nothing is removed. It may be repeated,
// and does not need the pod to be known.
func (m *Manager) Unmount(ctx context.Context, uid pod.UID) error {
	m.interrupt(uid)
	e, err := m.take(ctx, uid)
	if err != nil {
		return err
	}
	defer e.leave()
	defer m.forgetUnmounted(e)
	return m.tearDown(ctx, e)
}

// Remove removes what is left of a pod's directory, volumes included. While
// anything in it is still mounted nothing is removed.
func (m *Manager) Remove(ctx context.Context, uid pod.UID) error {
	m.interrupt(uid)
	e, err := m.take(ctx, uid)
	if err != nil {
		return err
	}
	defer e.leave()
	defer m.forgetUnmounted(e)
	if err := m.tearDown(ctx, e); err != nil {
		return err
	}
	if err := m.Store.RemovePod(uid); err != nil {
		return fmt.Errorf("removing the directory of pod %q: %w", uid, err)
	}
	return nil
}

// interrupt ends what is done for a pod whose volumes are not needed any more.
func (m *Manager) interrupt(uid pod.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.pods[uid]; e != nil && e.interrupt != nil {
		e.interrupt()
	}
}

func (m *Manager) tearDown(ctx context.Context, e *entry) error {
	// Nothing is refreshed any more, even if this does not go well at once.
	m.mu.Lock()
	e.mounted = false
	m.queue.remove(e)
	m.mu.Unlock()
	e.giveUp()
	err := m.unpublish(ctx, e.uid)
	if err == nil {
		err = m.Store.TearDown(e.uid)
	}
	if err != nil {
		return fmt.Errorf("UnmountVolume.TearDown failed for pod %q: %w", e.uid, err)
	}
	m.mu.Lock()
	e.pod = nil
	m.mu.Unlock()
	e.known.forget()
	return nil
}

// forgetUnmounted drops an entry that is held if it was made only to be held.
func (m *Manager) forgetUnmounted(e *entry) {
	m.mu.Lock()
	known := e.pod != nil
	m.mu.Unlock()
	if !known {
		m.forget(e)
	}
}

// Usage is what a pod's emptyDir takes of the disk, in bytes; with an error at least
// that. It does not wait for what else is done for the pod, and takes as long as it
// takes to look at every file.
func (m *Manager) Usage(ctx context.Context, uid pod.UID, name string) (int64, error) {
	used, err := m.Store.Usage(ctx, &Volume{Pod: uid, Name: name, Kind: EmptyDir})
	if errors.Is(err, fs.ErrNotExist) {
		// It is not there yet, or no more.
		return used, nil
	}
	if err != nil {
		err = fmt.Errorf("measuring volume %q of pod %q: %w", name, uid, err)
	}
	return used, err
}

// Orphans returns the pods that have a directory, so that those that are no
// more can be removed.
func (m *Manager) Orphans() []pod.UID {
	uids, err := m.Store.Pods()
	if err != nil {
		m.Log.Error("Cannot list the pods' directories", "err", err)
	}
	return uids
}
