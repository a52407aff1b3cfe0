//go:build linux

package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// claims has the claim "claim" and the persistent volume "pv".
type claims struct {
	claim v1.PersistentVolumeClaim
	pv    v1.PersistentVolume
	reads int
}

func (c *claims) PersistentVolumeClaim(_ context.Context, namespace, name string) (*v1.PersistentVolumeClaim, error) {
	c.reads++
	if namespace != "ns" || name != c.claim.Name {
		return nil, errors.New("no such claim")
	}
	return &c.claim, nil
}

func (c *claims) PersistentVolume(_ context.Context, name string) (*v1.PersistentVolume, error) {
	if name != c.pv.Name {
		return nil, errors.New("no such volume")
	}
	return &c.pv, nil
}

// withClaims has a claim that is bound to a local volume.
func withClaims(t *testing.T) (*world, *claims, *v1.Pod) {
	w := newWorld(t)
	c := &claims{}
	c.claim.Name, c.claim.UID, c.claim.Spec.VolumeName, c.claim.Status.Phase = "claim", "claim-uid", "pv", v1.ClaimBound
	c.pv.Name, c.pv.Spec.ClaimRef = "pv", &v1.ObjectReference{UID: "claim-uid"}
	c.pv.Spec.Local = &v1.LocalVolumeSource{Path: outside(t)}
	w.Claims = c
	return w, c, podOf(t, `
containers: [{name: c, volumeMounts: [{name: data, mountPath: /data}, {name: data, mountPath: /sub, subPath: in/new}]}]
volumes: [{name: data, persistentVolumeClaim: {claimName: claim}}]
`)
}

func TestLocalVolume(t *testing.T) {
	w, c, p := withClaims(t)
	for range 2 {
		w.mount(p)
	}
	if c.reads != 1 {
		t.Errorf("read %d times", c.reads)
	}
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	must(t, err)
	if mounts[0].HostPath != w.vol("local-volume/pv") || mounts[0].ReadOnly || mounts[1].HostPath != w.dir("volume-subpaths/pv/c/1") {
		t.Errorf("mounts %+v", mounts)
	}
	w.expect("local-volume/pv", "file=secret")
	if points, err := mountsBelow(w.dir("")); err != nil || len(points) != 2 {
		t.Errorf("mounted are %q, %v", points, err)
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	if got := tree(t, c.pv.Spec.Local.Path); got != "file=secret" {
		t.Errorf("the volume holds %q", got)
	}
	if _, err := os.Stat(filepath.Join(c.pv.Spec.Local.Path, "in/new")); err != nil {
		t.Error(err)
	}
}

func TestLocalVolumeStopsAnywhere(t *testing.T) {
	t.Parallel()
	group := int64(77)
	var c *claims
	p := podOf(t, "")
	everyStep(t, func(t *testing.T) *world {
		var w *world
		w, c, p = withClaims(t)
		p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
		return w
	}, func(w *world) error {
		return errors.Join(w.Mount(w.t.Context(), p), w.Remove(w.t.Context(), "uid-1"))
	}, func(w *world) {
		if got := tree(w.t, c.pv.Spec.Local.Path); got != "file=secret" {
			w.t.Errorf("the volume holds %q", got)
		}
	}, func(w *world) {
		w.Claims = c
		w.mount(p)
		w.expect("local-volume/pv", "file=secret")
		if _, gid := ownerOf(w.t, w.vol("local-volume/pv/file")); gid != 77 {
			w.t.Errorf("group %d", gid)
		}
		must(w.t, w.Remove(w.t.Context(), "uid-1"))
		w.expectGone()
		if got := tree(w.t, c.pv.Spec.Local.Path); got != "file=secret" {
			w.t.Errorf("the volume holds %q", got)
		}
	})
}

func TestFSGroupOfLocalVolume(t *testing.T) {
	w, c, p := withClaims(t)
	path := c.pv.Spec.Local.Path
	secret := outside(t)
	must(t, os.Symlink(filepath.Join(secret, "file"), filepath.Join(path, "link")))
	must(t, os.Chmod(filepath.Join(path, "file"), 0o400))
	group, always := int64(77), v1.FSGroupChangeAlways
	p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group, FSGroupChangePolicy: &always}
	state := func(name string) (fs.FileMode, int) {
		info, err := os.Lstat(filepath.Join(path, name))
		must(t, err)
		_, gid := ownerOf(t, filepath.Join(path, name))
		return info.Mode(), gid
	}
	expect := func(name string, mode fs.FileMode, gid int) {
		t.Helper()
		if m, g := state(name); m != mode || g != gid {
			t.Errorf("%s has %v %d, want %v %d", name, m, g, mode, gid)
		}
	}
	w.mount(p)
	expect(".", fs.ModeDir|fs.ModeSetgid|0o775, 77)
	expect("in", fs.ModeDir|fs.ModeSetgid|0o775, 77)
	expect("file", 0o660, 77)
	if _, gid := state("link"); gid != 77 {
		t.Errorf("the link has group %d", gid)
	}
	if _, gid := ownerOf(t, filepath.Join(secret, "file")); gid != 0 {
		t.Errorf("what the link leads to has group %d", gid)
	}

	// While it is mounted, and for others too, it stays.
	must(t, os.Chmod(filepath.Join(path, "file"), 0o600))
	w.mount(p)
	other := p.DeepCopy()
	other.UID = "other"
	w.mount(other)
	expect("file", 0o600, 77)
	must(t, w.Remove(t.Context(), "other"))
	must(t, w.Remove(t.Context(), "uid-1"))

	// A root that is right is enough for this policy, but not for the other.
	onMismatch := v1.FSGroupChangeOnRootMismatch
	p.Spec.SecurityContext.FSGroupChangePolicy = &onMismatch
	w.mount(p)
	expect("file", 0o600, 77)
	must(t, w.Remove(t.Context(), "uid-1"))
	p.Spec.SecurityContext.FSGroupChangePolicy = nil
	w.mount(p)
	expect("file", 0o660, 77)
	must(t, w.Remove(t.Context(), "uid-1"))
	for _, harm := range []func() error{
		func() error { return os.Chmod(path, fs.ModeSetgid|0o755) },
		func() error { return os.Chmod(path, 0o775) },
		func() error { return os.Chown(path, -1, 5) },
	} {
		must(t, os.Chmod(filepath.Join(path, "file"), 0o600))
		must(t, harm())
		p.Spec.SecurityContext.FSGroupChangePolicy = &onMismatch
		w.mount(p)
		expect("file", 0o660, 77)
		expect(".", fs.ModeDir|fs.ModeSetgid|0o775, 77)
		must(t, w.Remove(t.Context(), "uid-1"))
	}
	// One that is only read is not changed.
	must(t, os.Chmod(filepath.Join(path, "file"), 0o600))
	p.Spec.SecurityContext.FSGroupChangePolicy = &always
	p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	w.mount(p)
	expect("file", 0o600, 77)
}

func zone(name string) *v1.VolumeNodeAffinity {
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: []v1.NodeSelectorTerm{{
		MatchExpressions: []v1.NodeSelectorRequirement{{Key: "zone", Operator: v1.NodeSelectorOpIn, Values: []string{name}}}}}}}
}

func TestClaims(t *testing.T) {
	const notProcessed = `Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], failed to process volumes=[data]: `
	block := v1.PersistentVolumeBlock
	for name, test := range map[string]struct {
		change func(w *world, c *claims, p *v1.Pod)
		err    string
	}{
		"fine":       {func(*world, *claims, *v1.Pod) {}, ""},
		"not bound":  {func(_ *world, c *claims, _ *v1.Pod) { c.claim.Status.Phase = v1.ClaimPending }, notProcessed + `error processing PVC ns/claim: PVC is not bound`},
		"no volume":  {func(_ *world, c *claims, _ *v1.Pod) { c.claim.Spec.VolumeName = "" }, notProcessed + `error processing PVC ns/claim: PVC has empty pvc.Spec.VolumeName`},
		"missing":    {func(_ *world, c *claims, _ *v1.Pod) { c.claim.Name = "x" }, notProcessed + `error processing PVC ns/claim: failed to fetch PVC from API server: no such claim`},
		"missing PV": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Name = "x" }, notProcessed + `error processing PVC ns/claim: failed to fetch PV pv from API server: no such volume`},
		"other's":    {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.ClaimRef.UID = "x" }, notProcessed + `error processing PVC ns/claim: found PV object pv but its pv.Spec.ClaimRef.UID x does not point to claim.UID claim-uid`},
		"nobody's":   {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.ClaimRef = nil }, notProcessed + `error processing PVC ns/claim: found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim`},
		"deleted": {func(_ *world, c *claims, _ *v1.Pod) {
			now := metav1.Now()
			c.claim.DeletionTimestamp = &now
		}, notProcessed + `error processing PVC ns/claim: PVC is being deleted`},
		"deleted but in use": {func(_ *world, c *claims, _ *v1.Pod) {
			now := metav1.Now()
			c.claim.DeletionTimestamp, c.claim.Finalizers = &now, []string{claimProtection}
		}, ""},
		"block": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.VolumeMode = &block }, notProcessed + `volume data has volumeMode Block, but is specified in volumeMounts`},
		"other type": {func(_ *world, c *claims, _ *v1.Pod) {
			c.pv.Spec.Local, c.pv.Spec.CSI = nil, &v1.CSIPersistentVolumeSource{}
		}, `MountVolume.SetUp failed for volume "pv" : unsupported volume type "csi"`},
		"no seam": {func(w *world, _ *claims, _ *v1.Pod) { w.Claims = nil }, `MountVolume.SetUp failed for volume "data" : unsupported volume type "persistentVolumeClaim"`},
		"path up": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.Local.Path = "/a/../b" }, `MountVolume.SetUp failed for volume "pv" : invalid path: /a/../b must not contain '..'`},
		"no path": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.Local.Path = "" }, `MountVolume.SetUp failed for volume "pv" : LocalVolume volume "pv" path is empty`},
		"path is a file": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.Local.Path = "/proc/version" },
			`MountVolume.NewMounter initialization failed for volume "pv" : path "/proc/version": only directories are supported`},
		"this node's": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.NodeAffinity = zone("a") }, ""},
		"other node's": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.NodeAffinity = zone("b") },
			`MountVolume.NodeAffinity check failed for volume "pv" : no matching NodeSelectorTerms`},
		"block as a device": {func(_ *world, c *claims, p *v1.Pod) {
			c.pv.Spec.VolumeMode = &block
			p.Spec.Containers[0].VolumeMounts, p.Spec.Containers[0].VolumeDevices = nil, []v1.VolumeDevice{{Name: "data"}}
		}, notProcessed + `volume data has volumeMode Block, which is not supported by this node`},
		"files as a device": {func(_ *world, c *claims, p *v1.Pod) {
			p.Spec.Containers[0].VolumeMounts, p.Spec.Containers[0].VolumeDevices = nil, []v1.VolumeDevice{{Name: "data"}}
		}, notProcessed + `volume data has volumeMode Filesystem, but is specified in volumeDevices`},
		"path missing": {func(_ *world, c *claims, _ *v1.Pod) { c.pv.Spec.Local.Path = "/nowhere" }, `MountVolume.NewMounter initialization failed for volume "pv" : path "/nowhere" does not exist`},
		"ephemeral": {func(_ *world, c *claims, p *v1.Pod) {
			yes := true
			c.claim.Name = "p-data"
			c.claim.Namespace = "ns"
			c.claim.OwnerReferences = []metav1.OwnerReference{{UID: p.UID, Controller: &yes}}
			p.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
		}, ""},
		"other's ephemeral": {func(_ *world, c *claims, p *v1.Pod) {
			c.claim.Namespace, c.claim.Name = "ns", "p-data"
			p.Spec.Volumes[0].VolumeSource = v1.VolumeSource{Ephemeral: &v1.EphemeralVolumeSource{}}
		}, notProcessed + `PVC ns/p-data was not created for pod ns/p (pod is not owner)`},
	} {
		t.Run(name, func(t *testing.T) {
			w, c, p := withClaims(t)
			test.change(w, c, p)
			err := w.Mount(t.Context(), p)
			if test.err == "" {
				must(t, err)
				w.expect("local-volume/pv", "file=secret")
				return
			}
			if err == nil || err.Error() != test.err {
				t.Errorf("error %v, want %s", err, test.err)
			}
		})
	}
}

func TestHostPathOfClaim(t *testing.T) {
	w, c, p := withClaims(t)
	path := c.pv.Spec.Local.Path
	c.pv.Spec.Local, c.pv.Spec.HostPath = nil, &v1.HostPathVolumeSource{Path: path}
	p.Spec.Volumes[0].PersistentVolumeClaim.ReadOnly = true
	w.mount(p)
	p.Spec.Containers[0].VolumeMounts[1].SubPath = "in"
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	must(t, err)
	if mounts[0].HostPath != path || !mounts[0].ReadOnly || !mounts[1].ReadOnly {
		t.Errorf("mounts %+v", mounts)
	}
	p.Spec.Containers[0].VolumeMounts[1].SubPath = "new"
	if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err == nil {
		t.Error("made a directory in what is only read")
	}
}

// Simulated nodes have volumes of every type.
func TestMemoryHasEveryType(t *testing.T) {
	w := &world{t: t}
	w.Manager = w.manager(NewMemory())
	p := podOf(t, `
containers: [{name: c, volumeMounts: [{name: data, mountPath: /data}]}]
volumes:
- {name: data, persistentVolumeClaim: {claimName: claim}}
- {name: nfs, nfs: {server: s, path: /}}
- {name: csi, csi: {driver: d}}
`)
	w.mount(p)
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	if err != nil || mounts[0].HostPath == "" {
		t.Errorf("mounts %+v, %v", mounts, err)
	}
}

func TestHugePages(t *testing.T) {
	for name, test := range map[string]struct {
		medium, requests, err string
		size                  int64
	}{
		"named":       {"HugePages-2Mi", "hugepages-2Mi: 2Mi, hugepages-1Gi: 1Gi", "", 2 << 20},
		"asked":       {"HugePages", "hugepages-2Mi: 2Mi", "", 2 << 20},
		"not asked":   {"HugePages", "cpu: 1", "medium HugePages: hugePages storage requested, but there is no resource request for huge pages", 0},
		"other asked": {"HugePages-2Mi", "hugepages-1Gi: 1Gi", "medium HugePages-2Mi: hugePages storage requested, but there is no resource request for huge pages", 0},
		"two asked":   {"HugePages", "hugepages-2Mi: 2Mi, hugepages-1Gi: 1Gi", "medium: HugePages can't be used if container requests multiple huge page sizes", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := podOf(t, `
securityContext: {fsGroup: 77}
containers: [{name: c, resources: {requests: {`+test.requests+`}}}]
volumes: [{name: h, emptyDir: {medium: `+test.medium+`}}]
`)
			size, err := pageSize(p, v1.StorageMedium(test.medium))
			if size != test.size || err == nil && test.err != "" || err != nil && err.Error() != test.err {
				t.Errorf("size %d, %v", size, err)
			}
			if test.err != "" {
				return
			}
			err = w.Mount(t.Context(), p)
			if _, none := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); none != nil {
				// The kernel has no such pages, and the pod is told.
				if err == nil || !strings.HasPrefix(err.Error(), `MountVolume.SetUp failed for volume "h" : mount hugetlbfs `) {
					t.Errorf("error %v", err)
				}
				return
			}
			must(t, err)
			w.mount(p)
			var s unix.Statfs_t
			must(t, unix.Statfs(w.vol("empty-dir/h"), &s))
			info, err := os.Stat(w.vol("empty-dir/h"))
			must(t, err)
			if s.Type != unix.HUGETLBFS_MAGIC || s.Bsize != 2<<20 || info.Mode() != fs.ModeDir|fs.ModeSetgid|0o777 {
				t.Errorf("type %#x, pages of %d, mode %v", s.Type, s.Bsize, info.Mode())
			}
			if points, err := mountsBelow(w.dir("")); err != nil || len(points) != 1 {
				t.Errorf("mounted are %q, %v", points, err)
			}
		})
	}
}

// What no container mounts is not set up, until an ephemeral container does.
func TestUnusedVolumes(t *testing.T) {
	w := newWorld(t)
	p := podOf(t, `
containers: [{name: c, volumeMounts: [{name: e, mountPath: /e}]}]
volumes: [{name: e, emptyDir: {}}]
`)
	p.Spec.Volumes = append(p.Spec.Volumes,
		v1.Volume{Name: "cm", VolumeSource: v1.VolumeSource{ConfigMap: &v1.ConfigMapVolumeSource{LocalObjectReference: v1.LocalObjectReference{Name: "cm"}}}})
	w.mount(p)
	if w.reads["configmap/cm"] > 0 {
		t.Error("read a config map that nobody wants")
	}
	debug := v1.Container{Name: "debug", VolumeMounts: []v1.VolumeMount{{Name: "cm", MountPath: "/cm"}}}
	p = p.DeepCopy()
	p.Spec.EphemeralContainers = []v1.EphemeralContainer{{EphemeralContainerCommon: v1.EphemeralContainerCommon(debug)}}
	w.Update(p)
	if _, err := w.Mounts(p, &debug, nil); err == nil || err.Error() != `MountVolume.SetUp failed for volume "cm" : configmap "cm" not found` {
		t.Errorf("error %v", err)
	}
	w.setConfigMap("cm", "k=v")
	for range 2 {
		mounts, err := w.Mounts(p, &debug, nil)
		must(t, err)
		if mounts[0].HostPath != w.vol("configmap/cm") {
			t.Errorf("mounts %+v", mounts)
		}
	}
	w.expect("configmap/cm", "k=v")
	if w.reads["configmap/cm"] != 2 {
		t.Errorf("read %d times", w.reads["configmap/cm"])
	}
}

// All that failed is told: one error a volume, and one for those unknown.
func TestSeveralFailures(t *testing.T) {
	w, c, p := withClaims(t)
	c.claim.Status.Phase = v1.ClaimPending
	p.Spec.Volumes = append(p.Spec.Volumes, podOf(t, `volumes: [{name: b, configMap: {name: x}}, {name: a, secret: {secretName: x}}]`).Spec.Volumes...)
	p.Spec.Containers[0].VolumeMounts = append(p.Spec.Containers[0].VolumeMounts, v1.VolumeMount{Name: "a"}, v1.VolumeMount{Name: "b"})
	err := w.Mount(t.Context(), p)
	if err == nil {
		t.Fatal("mounted")
	}
	if got, want := err.Error(), `MountVolume.SetUp failed for volume "b" : configmap "x" not found
MountVolume.SetUp failed for volume "a" : secret "x" not found
Unable to attach or mount volumes: unmounted volumes=[a b data], unattached volumes=[], failed to process volumes=[data]: error processing PVC ns/claim: PVC is not bound`; got != want {
		t.Errorf("error %s", got)
	}
}
