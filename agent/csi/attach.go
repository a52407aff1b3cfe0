package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// volume is one that pods of the node use, or that is not undone yet.
type volume struct {
	// users are the pods that want it, true for those that may have it mounted.
	users map[pod.UID]bool
	// mayBeStaged says that there may be a global mount, staged that this agent
	// has made it.
	mayBeStaged, staged bool
	// attachable says whether the volume must be attached; nil if that is not
	// known.
	attachable *bool
	// ephemeral is for volumes that live with a pod.
	ephemeral bool
}

// look returns what is known of all volumes, read from the directories the first
// time. Called with m.mu held.
func (m *Manager) look() (map[volumeKey]*volume, error) {
	if m.volumes != nil {
		return m.volumes, nil
	}
	volumes := map[volumeKey]*volume{}
	root := os.DirFS(m.config.Root)
	find := func(pattern string, found func(v *volume, d *volumeData, dir string)) error {
		files, err := fs.Glob(root, pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			dir := path.Dir(file)
			d, err := load(filepath.Join(m.config.Root, dir))
			if err != nil {
				return err
			}
			if d == nil {
				m.Log.Warn("Cannot tell whose volume this is", "dir", dir)
				continue
			}
			v := volumes[d.key()]
			if v == nil {
				v = &volume{users: map[pod.UID]bool{}}
				volumes[d.key()] = v
			}
			found(v, d, dir)
		}
		return nil
	}
	err := find("pods/*/volumes/kubernetes.io~csi/*/"+dataFile, func(v *volume, d *volumeData, dir string) {
		v.users[pod.UID(strings.Split(dir, "/")[1])] = true
		v.ephemeral = d.Mode == string(storage.VolumeLifecycleEphemeral)
	})
	if err == nil {
		err = find("plugins/kubernetes.io/csi/*/*/"+dataFile, func(v *volume, d *volumeData, dir string) {
			// Kubelets before 1.24 had them elsewhere.
			if mount := m.globalMount(d.key()); filepath.Dir(mount) == filepath.Join(m.config.Root, dir) {
				v.mayBeStaged = true
				return
			}
			m.Log.Warn("A global mount is not where it should be; it is left alone", "dir", dir)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("looking for volumes below %s: %w", m.config.Root, err)
	}
	maps.DeleteFunc(volumes, func(_ volumeKey, v *volume) bool { return len(v.users) == 0 && !v.mayBeStaged })
	m.volumes = volumes
	return volumes, nil
}

// update changes what is known of a volume, which is forgotten when nothing uses
// it any more.
func (m *Manager) update(key volumeKey, change func(*volume)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	volumes, err := m.look()
	if err != nil {
		return err
	}
	v := volumes[key]
	if v == nil {
		v = &volume{users: map[pod.UID]bool{}}
		volumes[key] = v
	}
	before := v.mustBeAttached()
	change(v)
	if len(v.users) == 0 && !v.mayBeStaged {
		delete(volumes, key)
		if before {
			m.Report()
		}
	} else if v.mustBeAttached() != before {
		m.Report()
	}
	return nil
}

// state is what is known of a volume now.
func (m *Manager) state(key volumeKey) volume {
	m.mu.Lock()
	defer m.mu.Unlock()
	v := m.volumes[key]
	if v == nil {
		return volume{}
	}
	known := *v
	known.users = maps.Clone(v.users)
	return known
}

func (v *volume) mustBeAttached() bool { return v.attachable != nil && *v.attachable && !v.ephemeral }

// InUse are the unique names of the volumes that must not be detached from the
// node, sorted; false as long as that is not known.
func (m *Manager) InUse() ([]v1.UniqueVolumeName, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	volumes, err := m.look()
	if err != nil {
		return nil, false
	}
	var names []v1.UniqueVolumeName
	for key, v := range volumes {
		switch {
		case v.ephemeral:
		case v.attachable == nil:
			return nil, false
		case *v.attachable:
			names = append(names, v1.UniqueVolumeName(key.uniqueName()))
		}
	}
	slices.Sort(names)
	return names, true
}

// learnAttachable finds out which of the volumes that were there before the agent
// must be attached.
func (m *Manager) learnAttachable(ctx context.Context) {
	_ = retry(ctx, firstRetry, longestRetry, func() error {
		m.mu.Lock()
		volumes, err := m.look()
		var unknown []volumeKey
		for key, v := range volumes {
			if v.attachable == nil && !v.ephemeral {
				unknown = append(unknown, key)
			}
		}
		m.mu.Unlock()
		for _, key := range unknown {
			var about *storage.CSIDriver
			if about, err = m.about(ctx, key.driver); err != nil {
				break
			}
			m.learned(key, about)
		}
		if err != nil && ctx.Err() == nil {
			m.Log.Warn("Could not find out which volumes are attached", "err", err)
		}
		return err
	})
}

// learned notes whether a volume that is still known must be attached.
func (m *Manager) learned(key volumeKey, about *storage.CSIDriver) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v := m.volumes[key]; v != nil && v.attachable == nil {
		attachable := attachRequired(about)
		v.attachable = &attachable
		m.Report()
	}
}

// about returns what the cluster knows of a driver, nil for nothing.
func (m *Manager) about(ctx context.Context, name string) (*storage.CSIDriver, error) {
	d, err := m.API.CSIDriver(ctx, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return d, err
}

// attachRequired reports whether a driver's volumes must be attached: all must of
// which nothing else is known.
func attachRequired(about *storage.CSIDriver) bool {
	return about == nil || about.Spec.AttachRequired == nil || *about.Spec.AttachRequired
}

// unattached is why a volume that is not attached in time cannot be mounted.
type unattached struct{}

func (unattached) Error() string { return "timed out waiting for the condition" }

// Unattached marks the error for the words that the kubelet has for it.
func (unattached) Unattached() {}

// attachedLook is the pause between two looks at the Node.
const attachedLook = 300 * time.Millisecond

// attached waits until a volume is attached and the Node says that it is in use,
// so that it stays attached, and returns what its driver is to be told of that.
func (m *Manager) attached(ctx context.Context, key volumeKey) (map[string]string, error) {
	waiting, cancel := context.WithTimeout(ctx, m.config.AttachPatience)
	defer cancel()
	for !m.isAttached(key) {
		if !sleep.For(waiting, attachedLook) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, unattached{}
		}
	}
	name := key.attachmentID(m.config.NodeName)
	a, err := m.API.VolumeAttachment(ctx, name)
	switch {
	case err != nil:
		err = fmt.Errorf("volume %v has GET error for volume attachment %v: %w", key.handle, name, err)
	case a.DeletionTimestamp != nil:
		err = errors.New("volume attachment is being deleted")
	case a.Status.Attached:
		return a.Status.AttachmentMetadata, nil
	case a.Status.AttachError != nil:
		err = errors.New(a.Status.AttachError.Message)
	default:
		err = fmt.Errorf("volume %v is not attached for volume attachment %v", key.handle, name)
	}
	return nil, &stepError{err, "WaitForAttach"}
}

// isAttached reports whether the Node has a volume attached and in use.
func (m *Manager) isAttached(key volumeKey) bool {
	node := m.Node()
	if node == nil {
		return false
	}
	name := v1.UniqueVolumeName(key.uniqueName())
	return slices.Contains(node.Status.VolumesInUse, name) &&
		slices.ContainsFunc(node.Status.VolumesAttached, func(a v1.AttachedVolume) bool { return a.Name == name })
}

// stepError is the failure of a step of mounting a volume that has a name of its
// own in the kubelet's messages.
type stepError struct {
	error
	step string
}

func (s *stepError) Unwrap() error { return s.error }

// Step is the step's name.
func (s *stepError) Step() string { return s.step }
