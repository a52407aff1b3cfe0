//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/pod"
)

// drivers mounts a tmpfs for each volume, where there are directories.
type drivers struct {
	w *world

	mu sync.Mutex
	// published are the calls; mounted is what is mounted.
	published []pod.CSIVolume
	tokens    []string
	mounted   []string
	// group is whether the agent is to give the group, republish whether the driver
	// wants to be called again; err is what it answers, hang what it waits for.
	group, republish bool
	err              error
	hang             chan struct{}
	// hung is how many calls wait.
	hung int
}

func (d *drivers) Publish(ctx context.Context, v *pod.CSIVolume) (bool, error) {
	token, err := v.Token("vault", nil)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.published = append(d.published, *v)
	d.tokens = append(d.tokens, token.Token)
	hang := d.hang
	if hang != nil {
		d.hung++
		defer func() { d.hung-- }()
		d.mu.Unlock()
		select {
		case <-hang:
		case <-ctx.Done():
			err = errors.Join(err, ctx.Err())
		}
		d.mu.Lock()
	}
	if d.err != nil || err != nil || d.w.dirs == nil || slices.Contains(d.mounted, v.Target) {
		return d.group, errors.Join(err, d.err)
	}
	if err := os.MkdirAll(v.Target, 0o750); err != nil {
		return false, err
	}
	d.mounted = append(d.mounted, v.Target)
	return d.group, unix.Mount("tmpfs", v.Target, "tmpfs", 0, "")
}

// Unpublish fails while something of a volume is mounted elsewhere.
func (d *drivers) Unpublish(_ context.Context, uid pod.UID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil || d.w.dirs == nil {
		return d.err
	}
	if bound, err := mountsBelow(d.w.dir(subPathsDir)); err != nil || len(bound) > 0 {
		return fmt.Errorf("still bound: %q, %w", bound, err)
	}
	for _, target := range d.mounted {
		if err := errors.Join(unmount(target), os.Remove(target)); err != nil {
			return err
		}
	}
	d.mounted = nil
	return nil
}

func (d *drivers) Republishes(context.Context, *v1.CSIVolumeSource, *v1.PersistentVolume) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.republish
}

func (d *drivers) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.published)
}

const csiPod = `
securityContext: {fsGroup: 77}
containers:
- name: c
  volumeMounts: [{name: data, mountPath: /data}, {name: data, mountPath: /sub, subPath: in/new}, {name: own, mountPath: /own}]
volumes:
- {name: data, persistentVolumeClaim: {claimName: claim}}
- {name: own, csi: {driver: d, readOnly: true}}
`

// withDrivers has a pod with a claim on a driver's volume, and one of its own.
func withDrivers(t *testing.T) (*world, *drivers, *v1.Pod) {
	w, c, _ := withClaims(t)
	c.pv.Spec.Local, c.pv.Spec.CSI = nil, &v1.CSIPersistentVolumeSource{Driver: "d", VolumeHandle: "h"}
	d := &drivers{w: w}
	w.CSI = d
	return w, d, podOf(t, csiPod)
}

func TestCSIVolumes(t *testing.T) {
	w, d, p := withDrivers(t)
	d.group = true
	w.mount(p)
	data, own := w.vol("csi/pv/mount"), w.vol("csi/own/mount")
	slices.SortFunc(d.published, func(a, b pod.CSIVolume) int { return -strings.Compare(a.Name, b.Name) })
	for i, want := range []pod.CSIVolume{{Name: "pv", Target: data}, {Name: "own", Target: own, ReadOnly: true}} {
		if got := d.published[i]; got.Name != want.Name || got.Target != want.Target || got.ReadOnly != want.ReadOnly ||
			(got.Persistent == nil) != (i == 1) || (got.Inline == nil) != (i == 0) || got.Pod != p {
			t.Errorf("published %+v", got)
		}
	}
	// The second asks for no token of its own.
	if !slices.Equal(d.tokens, []string{"ns/#1", "ns/#1"}) {
		t.Errorf("tokens %q", d.tokens)
	}
	if _, gid := ownerOf(t, data); gid != 77 {
		t.Errorf("group %d", gid)
	}
	if _, gid := ownerOf(t, own); gid == 77 {
		t.Error("a read-only volume was given to the group")
	}
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	must(t, err)
	if mounts[0].HostPath != data || mounts[0].ReadOnly || mounts[1].HostPath != w.dir("volume-subpaths/pv/c/1") || mounts[2].HostPath != own || !mounts[2].ReadOnly {
		t.Errorf("mounts %+v", mounts)
	}
	d.err = errors.New("busy")
	if err := w.Unmount(t.Context(), "uid-1"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%v", err)
	}
	if len(d.mounted) != 2 {
		t.Errorf("mounted %q", d.mounted)
	}
	if points, err := mountsBelow(data); err != nil || len(points) != 1 {
		t.Errorf("the driver's mount has been touched: %q, %v", points, err)
	}
	d.err = nil
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// A driver that sees to the group itself has it left alone.
func TestCSIGroupOfDriver(t *testing.T) {
	w, _, p := withDrivers(t)
	w.mount(p)
	if _, gid := ownerOf(t, w.vol("csi/pv/mount")); gid == 77 {
		t.Error("the agent gave the group")
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// stepped and late are errors as drivers' volumes have them.
type stepped struct{ error }

func (stepped) Step() string { return "MountDevice" }

type late struct{ error }

func (late) Unattached() {}

func TestCSIFailures(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("no"), `MountVolume.SetUp failed for volume "pv" : no` + "\n" + `MountVolume.SetUp failed for volume "own" : no`},
		{stepped{errors.New("no")}, `MountVolume.MountDevice failed for volume "pv" : no` + "\n" + `MountVolume.MountDevice failed for volume "own" : no`},
		{late{errors.New("timed out waiting for the condition")}, "Unable to attach or mount volumes: unmounted volumes=[data own], " +
			"unattached volumes=[data own], failed to process volumes=[]: timed out waiting for the condition"},
	} {
		w, d, p := withDrivers(t)
		d.err = test.err
		// Errors are joined as the worker takes them apart.
		if err := w.Mount(t.Context(), p); err == nil || err.Error() != test.want {
			t.Errorf("%v\nwant %s", err, test.want)
		}
	}
}

// A node without drivers has no such volumes.
func TestNoCSI(t *testing.T) {
	w, _, p := withDrivers(t)
	w.CSI = nil
	const want = `MountVolume.SetUp failed for volume "pv" : unsupported volume type "csi"` + "\n" +
		`MountVolume.SetUp failed for volume "own" : unsupported volume type "csi"`
	if err := w.Mount(t.Context(), p); err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// A driver that wants to be called again is, with what it has to be told by then;
// one that hangs holds up nobody else.
func TestRepublish(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		d := &drivers{w: w}
		w.CSI = d
		w.setConfigMap("cm", "k=1")
		const own = "containers: [{name: c, volumeMounts: [{name: own, mountPath: /own}]}]\nvolumes: [{name: own, csi: {driver: d}}]"
		w.mount(podOf(t, own))
		time.Sleep(10 * time.Minute)
		if n := d.calls(); n != 1 {
			t.Errorf("called %d times", n)
		}
		d.mu.Lock()
		d.republish = true
		d.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if n := d.calls(); n < 7 || n > 11 {
			t.Errorf("called %d times", n)
		}
		d.mu.Lock()
		d.err = errors.New("no")
		d.mu.Unlock()
		before := len(w.told())
		time.Sleep(90 * time.Second)
		d.mu.Lock()
		d.err = nil
		d.mu.Unlock()
		if told := w.told(); len(told) == before || told[before].Message != `MountVolume.SetUp failed for volume "own" : no` {
			t.Errorf("told %+v", told)
		}
		for i := range 2 * maxRefreshing {
			p := podOf(t, own)
			p.UID = types.UID(fmt.Sprintf("hangs-%d", i))
			w.mount(p)
		}
		hang := make(chan struct{})
		d.mu.Lock()
		d.hang = hang
		d.mu.Unlock()
		time.Sleep(5 * time.Minute)
		p := podOf(t, "volumes: [{name: v, configMap: {name: cm}}]")
		p.UID = "uid-2"
		w.mount(p)
		w.setConfigMap("cm", "k=2")
		time.Sleep(90 * time.Second)
		// A pod's end does not wait for it either.
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		must(t, w.Unmount(ctx, "hangs-0"))
		if took := time.Since(began); took > 0 {
			t.Errorf("unmounting took %v", took)
		}
		if got, err := s.ReadFile("uid-2", "v", "k"); got != "2" {
			t.Errorf("a config map shows %q, %v", got, err)
		}
		close(hang)
	})
}
