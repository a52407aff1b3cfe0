package csi

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	storage "k8s.io/api/storage/v1"
)

// stage has the driver make the volume's global mount, if it wants one and there
// is none yet, and returns where that is; "" for none.
func (p *publication) stage(ctx context.Context, c *connection) (string, error) {
	if !c.stages() || p.mode != storage.VolumeLifecyclePersistent {
		return "", nil
	}
	mount := p.globalMount(p.volumeKey)
	known := p.state(p.volumeKey)
	if known.staged {
		return mount, nil
	}
	failed := func(err error) (string, error) { return "", &stepError{err, "MountDevice"} }
	if err := p.at("note stage"); err != nil {
		return failed(err)
	}
	data := volumeData{Driver: p.driver, Handle: p.handle}
	if err := data.save(filepath.Dir(mount)); err != nil {
		return failed(fmt.Errorf("%s: failed to save volume info data: %w", plugin, err))
	}
	if err := p.update(p.volumeKey, func(v *volume) { v.mayBeStaged = true }); err != nil {
		return failed(err)
	}
	if err := makeMount(mount); err != nil {
		return failed(fmt.Errorf("%s: attacher.MountDevice failed to create dir %q:  %w", plugin, mount, err))
	}
	if err := p.at("stage"); err != nil {
		return failed(err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.CallTimeout)
	defer cancel()
	_, err := c.NodeStageVolume(ctx, &spec.NodeStageVolumeRequest{
		VolumeId: p.handle, PublishContext: p.context, StagingTargetPath: mount,
		VolumeCapability: c.capability(p.source), Secrets: p.stageSecrets, VolumeContext: p.attributes,
	})
	if err != nil {
		if refused(err) && !known.mayBeStaged && p.removeMount(mount) == nil {
			_ = p.update(p.volumeKey, func(v *volume) { v.mayBeStaged = false })
		}
		return failed(err)
	}
	if err := p.update(p.volumeKey, func(v *volume) { v.staged = true }); err != nil {
		return failed(err)
	}
	if err := p.at("staged"); err != nil {
		return failed(err)
	}
	return mount, nil
}

// unstage has the driver undo a global mount that no pod uses. The volume's lock
// is held.
func (m *Manager) unstage(ctx context.Context, key volumeKey) error {
	m.mu.Lock()
	v := m.volumes[key]
	unused := v != nil && v.isUnused()
	d := m.drivers[key.driver]
	m.mu.Unlock()
	if !unused {
		return nil
	}
	if d == nil {
		return fmt.Errorf("%s: attacher.UnmountDevice failed to create newCsiDriverClient: driver name %s not found in the list of registered CSI drivers", plugin, key.driver)
	}
	mount := m.globalMount(key)
	ctx, cancel := context.WithTimeout(ctx, m.config.CallTimeout)
	defer cancel()
	c, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: attacher.UnmountDevice failed to check whether STAGE_UNSTAGE_VOLUME set: %w", plugin, err)
	}
	defer c.close()
	if err := m.at("unstage"); err != nil {
		return err
	}
	if c.stages() {
		if _, err := c.NodeUnstageVolume(ctx, &spec.NodeUnstageVolumeRequest{VolumeId: key.handle, StagingTargetPath: mount}); err != nil {
			return fmt.Errorf("%s: attacher.UnmountDevice failed: %w", plugin, err)
		}
	}
	if err := m.removeMount(mount); err != nil {
		return fmt.Errorf("%s: failed to clean up global mount %s: %w", plugin, filepath.Dir(mount), err)
	}
	return m.update(key, func(v *volume) { v.mayBeStaged, v.staged = false, false })
}

// isUnused reports whether there may be a global mount that no pod uses.
func (v *volume) isUnused() bool { return len(v.users) == 0 && v.mayBeStaged }

// longestUnstageRetry is the longest pause between two tries to unstage.
const longestUnstageRetry = 2 * time.Minute

// unstageUnused undoes global mounts that were left, by an agent before this one
// or because a driver could not at first, until ctx ends.
func (m *Manager) unstageUnused(ctx context.Context) {
	delay := firstRetry
	for {
		left := 0
		for _, key := range m.unused() {
			if err := m.tryUnstage(ctx, key); err != nil {
				left++
				m.Log.Debug("A volume is still staged", "driver", key.driver, "volume", key.handle, "err", err)
			}
		}
		var timer <-chan time.Time
		if left > 0 {
			timer = time.After(delay)
			delay = min(2*delay, longestUnstageRetry)
		} else {
			delay = firstRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer:
		}
	}
}

func (m *Manager) tryUnstage(ctx context.Context, key volumeKey) error {
	leave, err := m.locks.take(ctx, key)
	if err != nil {
		return err
	}
	defer leave()
	return m.unstage(ctx, key)
}

// unused are the volumes that may have a global mount that no pod uses.
func (m *Manager) unused() []volumeKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	volumes, err := m.look()
	if err != nil {
		m.Log.Error("Cannot tell which volumes are staged", "err", err)
	}
	var keys []volumeKey
	for key, v := range volumes {
		if v.isUnused() {
			keys = append(keys, key)
		}
	}
	return keys
}

// poke has unstageUnused look again.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// makeMount makes the directory of a global mount, unless something is mounted on
// it, which may be of a kind that cannot be looked at.
func makeMount(mount string) error {
	mounted, err := isMounted(mount)
	if err != nil || mounted {
		return err
	}
	return os.MkdirAll(mount, dirMode)
}
