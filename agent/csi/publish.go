package csi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	v1 "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"

	"nodelet/agent/pod"
)

// Publish has a volume mounted for its pod. It reports whether the agent is to
// give what is in the volume to the pod's group. It may be repeated, and is by
// drivers' wish. An error may have a method Step that names the step that failed
// other than SetUp, or a method Unattached if the volume was not attached in time.
func (m *Manager) Publish(ctx context.Context, v *pod.CSIVolume) (giveGroup bool, err error) {
	s := sourceOf(v)
	about, err := m.about(ctx, s.driver)
	if err != nil {
		return false, fmt.Errorf("%s: mounter.SetUpAt failed to get CSIDriver %s: %w", plugin, s.driver, err)
	}
	uid := pod.UID(v.Pod.UID)
	attachable := s.mode == storage.VolumeLifecyclePersistent && attachRequired(about)
	err = m.update(s.volumeKey, func(known *volume) {
		if _, ok := known.users[uid]; !ok {
			known.users[uid] = false
		}
		known.attachable, known.ephemeral = &attachable, s.mode == storage.VolumeLifecycleEphemeral
	})
	if err != nil {
		return false, err
	}
	p := &publication{Manager: m, CSIVolume: v, source: s, about: about}
	if attachable {
		if p.context, err = m.attached(ctx, s.volumeKey); err != nil {
			return false, err
		}
	}
	leave, err := m.locks.take(ctx, s.volumeKey)
	if err != nil {
		return false, err
	}
	defer leave()
	return p.publish(ctx)
}

// publication is one volume being published.
type publication struct {
	*Manager
	*pod.CSIVolume
	*source
	about *storage.CSIDriver
	// context is what the attachment has for the driver.
	context map[string]string
	// secrets go with the mount, stageSecrets with the global one.
	secrets, stageSecrets map[string]string
}

// publish does it, with the volume's lock held.
func (p *publication) publish(ctx context.Context) (giveGroup bool, err error) {
	uid := pod.UID(p.Pod.UID)
	published, others := p.users(p.volumeKey, uid)
	if p.onePod() && others {
		return false, errOnePod
	}
	if err := checkMode(p.source, p.about); err != nil {
		return false, fmt.Errorf("%s: mounter.SetupAt failed to check volume lifecycle mode: %w", plugin, err)
	}
	policy, err := groupPolicy(p.about)
	if err != nil {
		return false, fmt.Errorf("%s: mounter.SetupAt failed to check fsGroup policy: %w", plugin, err)
	}
	c, err := p.connect(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	// All that may be missing is got before anything needs to be undone.
	if err := p.gather(ctx, c); err != nil {
		return false, err
	}
	data := volumeData{Driver: p.driver, Handle: p.handle, Volume: p.Name, Node: p.config.NodeName,
		AttachmentID: p.attachmentID(p.config.NodeName), Mode: string(p.mode)}
	if err := p.note(uid, &data); err != nil {
		return false, err
	}
	staged, err := p.stage(ctx, c)
	if err == nil {
		err = p.call(ctx, c, staged)
	}
	if err != nil {
		if refused(err) && !published {
			p.forget(uid)
		}
		return false, err
	}
	return !c.setsGroup() && p.needsGroup(policy), nil
}

// users reports whether a pod may have a volume mounted, and whether others may.
func (m *Manager) users(key volumeKey, uid pod.UID) (self, others bool) {
	for user, mounted := range m.state(key).users {
		self = self || mounted && user == uid
		others = others || mounted && user != uid
	}
	return self, others
}

// connect connects to the volume's driver.
func (p *publication) connect(ctx context.Context) (*connection, error) {
	d, err := p.find(ctx, p.driver)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, p.config.CallTimeout)
		defer cancel()
		var c *connection
		if c, err = d.connect(ctx); err == nil {
			return c, nil
		}
	}
	if p.mode == storage.VolumeLifecyclePersistent {
		return nil, &stepError{fmt.Errorf("%s: attacher.MountDevice failed to create newCsiDriverClient: %w", plugin, err), "MountDevice"}
	}
	return nil, fmt.Errorf("%s: mounter.SetUpAt failed to get CSI client: %w", plugin, err)
}

// gather gets what the driver is to be told: secrets, tokens and the pod.
func (p *publication) gather(ctx context.Context, c *connection) error {
	var err error
	if c.stages() && p.mode == storage.VolumeLifecyclePersistent {
		if p.stageSecrets, err = p.secret(ctx, p.stageSecret, "NodeStageSecretRef"); err != nil {
			return &stepError{err, "MountDevice"}
		}
	}
	if p.secrets, err = p.secret(ctx, p.publishSecret, "NodePublishSecretRef"); err != nil {
		return err
	}
	return p.addPod(p.CSIVolume, p.about, p.secrets)
}

// note writes down whose volume this is to be.
func (p *publication) note(uid pod.UID, data *volumeData) error {
	if err := p.at("note"); err != nil {
		return err
	}
	if err := data.save(filepath.Dir(p.Target)); err != nil {
		return fmt.Errorf("%s: mounter.SetUpAt failed to save volume info data: %w", plugin, err)
	}
	return p.update(p.volumeKey, func(v *volume) { v.users[uid] = true })
}

// forget takes back what note has done, where nothing is mounted.
func (p *publication) forget(uid pod.UID) {
	if err := p.removeMount(p.Target); err != nil {
		p.Log.Warn("Cannot clean up after a volume that was refused", "target", p.Target, "err", err)
		return
	}
	_ = p.update(p.volumeKey, func(v *volume) { v.users[uid] = false })
}

// call has the driver mount the volume.
func (p *publication) call(ctx context.Context, c *connection, staged string) error {
	if err := p.at("publish"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.CallTimeout)
	defer cancel()
	_, err := c.NodePublishVolume(ctx, &spec.NodePublishVolumeRequest{
		VolumeId: p.handle, PublishContext: p.context, StagingTargetPath: staged, TargetPath: p.Target,
		VolumeCapability: c.capability(p.source), Readonly: p.readOnly, Secrets: p.secrets, VolumeContext: p.attributes,
	})
	if err != nil {
		return err
	}
	return p.at("published")
}

// Unpublish has the drivers unmount all their volumes of a pod of which no
// container is left. It may be repeated. What nobody has noted it leaves alone.
func (m *Manager) Unpublish(ctx context.Context, uid pod.UID) error {
	if name := string(uid); !filepath.IsLocal(name) || name == "." || filepath.Base(name) != name {
		return fmt.Errorf("pod UID %q cannot be the name of a directory", uid)
	}
	entries, err := os.ReadDir(m.volumesDir(uid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(m.volumesDir(uid), e.Name())
		data, err := load(dir)
		if err == nil && data != nil {
			err = m.unpublish(ctx, uid, data, filepath.Join(dir, "mount"))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %q: %w", e.Name(), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.release(uid)
}

// unpublish has a driver unmount a volume of a pod.
func (m *Manager) unpublish(ctx context.Context, uid pod.UID, data *volumeData, target string) error {
	leave, err := m.locks.take(ctx, data.key())
	if err != nil {
		return err
	}
	defer leave()
	d, err := m.find(ctx, data.Driver)
	if err != nil {
		return fmt.Errorf("%s: Unmounter.TearDownAt failed to get CSI client: %w", plugin, err)
	}
	if err := m.at("unpublish"); err != nil {
		return err
	}
	if err := d.unpublish(ctx, m.config.CallTimeout, data.Handle, target); err != nil {
		return fmt.Errorf("%s: Unmounter.TearDownAt failed: %w", plugin, err)
	}
	if err := m.removeMount(target); err != nil {
		return fmt.Errorf("%s: Unmounter.TearDownAt failed to clean mount dir [%s]: %w", plugin, target, err)
	}
	if err := m.update(data.key(), func(v *volume) { delete(v.users, uid) }); err != nil {
		return err
	}
	if err := m.unstage(ctx, data.key()); err != nil {
		// The pod need not wait for that.
		m.Log.Warn("Cannot unstage a volume; it is tried again", "driver", data.Driver, "volume", data.Handle, "err", err)
		m.poke()
	}
	return nil
}

func (d *driver) unpublish(ctx context.Context, timeout time.Duration, handle, target string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dial(d.endpoint)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = spec.NewNodeClient(conn).NodeUnpublishVolume(ctx, &spec.NodeUnpublishVolumeRequest{VolumeId: handle, TargetPath: target})
	return err
}

// release notes that a pod wants no volumes any more.
func (m *Manager) release(uid pod.UID) error {
	m.mu.Lock()
	volumes, err := m.look()
	var wanted []volumeKey
	for key, v := range volumes {
		if _, ok := v.users[uid]; ok {
			wanted = append(wanted, key)
		}
	}
	m.mu.Unlock()
	for _, key := range wanted {
		if err := m.update(key, func(v *volume) { delete(v.users, uid) }); err != nil {
			return err
		}
	}
	if len(wanted) > 0 {
		m.poke()
	}
	return err
}

// answer is whether a driver wants its volumes published again and again, as it
// was asked at a time.
type answer struct {
	republish bool
	at        time.Time
}

// answerAge is how old an answer may be.
const answerAge = time.Minute

// Republishes reports whether a driver wants to be called again and again for its
// volumes. What cannot be found out now is false.
func (m *Manager) Republishes(ctx context.Context, source *v1.CSIVolumeSource, pv *v1.PersistentVolume) bool {
	name := ""
	switch {
	case source != nil:
		name = source.Driver
	case pv != nil && pv.Spec.CSI != nil:
		name = pv.Spec.CSI.Driver
	}
	m.mu.Lock()
	known, ok := m.republish[name]
	m.mu.Unlock()
	if ok && time.Since(known.at) < answerAge {
		return known.republish
	}
	about, err := m.about(ctx, name)
	if err != nil {
		return false
	}
	known = answer{about != nil && isTrue(about.Spec.RequiresRepublish), time.Now()}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.republish[name] = known
	return known.republish
}
