//go:build linux

package volume

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

const emptyDirPod = `
containers: [{name: c}]
volumes: [{name: e, emptyDir: {}}]
`

// foreign mounts a tmpfs with a file in it, as somebody else's data.
func foreign(t *testing.T, dir string) (file string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	must(t, mountTmpfs(dir, "size=1m"))
	file = filepath.Join(dir, "precious")
	must(t, os.WriteFile(file, []byte("data"), 0o644))
	return file
}

// What is mounted and cannot be unmounted is not emptied.
func TestBusyMountIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	p := podOf(t, emptyDirPod)
	w.mount(p)
	e := w.vol("empty-dir/e")
	must(t, os.WriteFile(filepath.Join(e, "own"), nil, 0o644))
	file := foreign(t, filepath.Join(e, "mnt"))
	busy, err := os.Open(file)
	must(t, err)
	for range 2 {
		for name, call := range map[string]func() error{
			"unmount": func() error { return w.Unmount(t.Context(), "uid-1") },
			"remove":  func() error { return w.Remove(t.Context(), "uid-1") },
			"store":   func() error { return w.dirs.RemovePod("uid-1") },
		} {
			if err := call(); err == nil || !strings.Contains(err.Error(), "mnt") {
				t.Errorf("%s: error %v", name, err)
			}
		}
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(e, "own")); err != nil {
			t.Errorf("something was removed: %v", err)
		}
	}
	must(t, busy.Close())
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// Mounts that containers have left, on each other too, go. What they were bound
// from stays.
func TestLeftMountsAreUnmounted(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	source := outside(t)
	e := w.vol("empty-dir/e")
	for _, dir := range []string{"m", "m", "with blank"} {
		must(t, os.MkdirAll(filepath.Join(e, dir), 0o755))
		must(t, unix.Mount(source, filepath.Join(e, dir), "", unix.MS_BIND, ""))
	}
	must(t, unix.Mount("tmpfs", filepath.Join(e, "m/in"), "tmpfs", 0, ""))
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	if got := tree(t, source); got != "file=secret" {
		t.Errorf("the source holds %q", got)
	}
}

// A mount that comes while the directory is being removed is not entered.
func TestMountComesDuringRemoval(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	source := outside(t)
	e := w.vol("empty-dir/e")
	must(t, os.Mkdir(filepath.Join(e, "m"), 0o755))
	done := false
	w.dirs.step = func(what, path string) error {
		if what == "remove" && !done {
			done = true
			return unix.Mount(source, filepath.Join(e, "m"), "", unix.MS_BIND, "")
		}
		return nil
	}
	if err := w.Unmount(t.Context(), "uid-1"); err == nil || !strings.Contains(err.Error(), "still mounted") {
		t.Errorf("error %v", err)
	}
	if got := tree(t, source); got != "file=secret" {
		t.Errorf("the source holds %q", got)
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// What the host mounts below a hostPath shows below a subpath of it as well.
// There it is unmounted, on the host not.
func TestHostKeepsItsMounts(t *testing.T) {
	w := newWorld(t)
	host := filepath.Join(t.TempDir(), "host")
	must(t, os.Mkdir(host, 0o755))
	must(t, mountTmpfs(host, "size=1m"))
	t.Cleanup(func() { _ = unix.Unmount(host, unix.MNT_DETACH) })
	must(t, unix.Mount("", host, "", unix.MS_SHARED, ""))
	must(t, os.MkdirAll(filepath.Join(host, "in/nfs"), 0o755))
	p := subPathPod(t, "h", "in", host)
	p.Spec.Volumes = p.Spec.Volumes[1:2]
	w.mount(p)
	got, err := w.bound(p)
	must(t, err)
	file := foreign(t, filepath.Join(host, "in/nfs"))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Dir(file), unix.MNT_DETACH) })
	if _, err := os.Stat(filepath.Join(got, "nfs/precious")); err != nil {
		t.Fatalf("the mount does not show in the subpath: %v", err)
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	if data, err := os.ReadFile(file); err != nil || string(data) != "data" {
		t.Errorf("the host reads %q, %v", data, err)
	}
}

// The same where a subpath is bound anew.
func TestHostKeepsItsMountsWhenBoundAnew(t *testing.T) {
	w := newWorld(t)
	host := filepath.Join(t.TempDir(), "host")
	must(t, os.Mkdir(host, 0o755))
	must(t, mountTmpfs(host, "size=1m"))
	t.Cleanup(func() { _ = unix.Unmount(host, unix.MNT_DETACH) })
	must(t, unix.Mount("", host, "", unix.MS_SHARED, ""))
	must(t, os.MkdirAll(filepath.Join(host, "in/nfs"), 0o755))
	p := subPathPod(t, "h", "in", host)
	p.Spec.Volumes = p.Spec.Volumes[1:2]
	w.mount(p)
	_, err := w.bound(p)
	must(t, err)
	file := foreign(t, filepath.Join(host, "in/nfs"))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(host, "old/nfs"), unix.MNT_DETACH) })
	must(t, os.Rename(filepath.Join(host, "in"), filepath.Join(host, "old")))
	must(t, os.Mkdir(filepath.Join(host, "in"), 0o755))
	_, err = w.bound(p)
	must(t, err)
	if data, err := os.ReadFile(strings.Replace(file, "/in/", "/old/", 1)); err != nil || string(data) != "data" {
		t.Errorf("the host reads %q, %v", data, err)
	}
}

// Links in volumes are removed, not what they lead to.
func TestRemovalFollowsNoLink(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	source := outside(t)
	must(t, os.Symlink(source, w.vol("empty-dir/e/l")))
	must(t, os.Symlink(filepath.Join(source, "file"), w.vol("empty-dir/e/f")))
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	if got := tree(t, source); got != "file=secret" {
		t.Errorf("the source holds %q", got)
	}
}

// Containers can make directories that are deeper than a path is long, and
// than files can be open.
func TestRemoveDeep(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	e := w.vol("empty-dir/e")
	must(t, os.Mkdir(filepath.Join(w.dir("volumes"), "..deep-1"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.dir("volumes"), "..deep-1/x"), nil, 0o644))
	fd, err := unix.Open(e, unix.O_DIRECTORY, 0)
	must(t, err)
	for range 3000 {
		must(t, unix.Mkdirat(fd, "directory", 0o000))
		must(t, unix.Mkdirat(fd, "another", 0o755))
		next, err := unix.Openat(fd, "directory", unix.O_DIRECTORY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

func TestRemoveManyFiles(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	for i := range 5000 {
		must(t, os.WriteFile(w.vol("empty-dir/e/"+strings.Repeat("x", i%200)+string(rune('a'+i%26))+string(rune(0x4e00+i))), nil, 0o644))
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// Without openat2 other devices are not entered either.
func TestOpenSameDevice(t *testing.T) {
	w := newWorld(t)
	must(t, os.MkdirAll(filepath.Join(w.root, "same"), 0o755))
	foreign(t, filepath.Join(w.root, "other"))
	parent, err := os.Open(w.root)
	must(t, err)
	defer parent.Close()
	fd, err := openSameDevice(parent, "same", unix.O_DIRECTORY)
	must(t, err)
	must(t, unix.Close(fd))
	if _, err := openSameDevice(parent, "other", unix.O_DIRECTORY); !errors.Is(err, unix.EXDEV) {
		t.Errorf("error %v", err)
	}
}

// UIDs and names that their authors chose lead nowhere else.
func TestNamesThatAreNone(t *testing.T) {
	w := newWorld(t)
	must(t, os.MkdirAll(filepath.Join(w.root, "other/file"), 0o755))
	for _, uid := range []string{"", ".", "..", "../other", "a/b", "a\x00", strings.Repeat("x", 300)} {
		p := podOf(t, emptyDirPod)
		p.UID = types.UID(uid)
		_, fileErr := w.File(pod.UID(uid), "f", nil)
		for name, err := range map[string]error{
			"Mount":   w.Mount(t.Context(), p),
			"Unmount": w.Unmount(t.Context(), pod.UID(uid)),
			"Remove":  w.Remove(t.Context(), pod.UID(uid)),
			"Store":   w.dirs.RemovePod(pod.UID(uid)),
			"File":    fileErr,
		} {
			if err == nil {
				t.Errorf("%s of UID %q went well", name, uid)
			}
		}
	}
	for _, name := range []string{"", "..", "a/b", "..new-e"} {
		p := podOf(t, emptyDirPod)
		p.Spec.Volumes[0].Name = name
		p.Spec.Containers[0].VolumeMounts = []v1.VolumeMount{{Name: name}}
		if err := w.Mount(t.Context(), p); err == nil {
			t.Errorf("volume name %q went well", name)
		}
		v := &Volume{Pod: "uid-1", Name: "e", Kind: EmptyDir}
		if _, err := w.dirs.HostPath(v, SubPath{Container: name + "/..", Path: "x"}); err == nil {
			t.Errorf("container name %q went well", name+"/..")
		}
	}
	for _, name := range []string{"", "..", "../f", "/f", "a/../../f"} {
		if _, err := w.File("uid-1", name, nil); err == nil {
			t.Errorf("file name %q went well", name)
		}
	}
	if _, err := os.Stat(filepath.Join(w.root, "other/file")); err != nil {
		t.Error(err)
	}
}

func TestOrphans(t *testing.T) {
	w := newWorld(t)
	if got := w.Orphans(); len(got) != 0 {
		t.Errorf("at first there are %q", got)
	}
	w.mount(podOf(t, emptyDirPod))
	must(t, os.Mkdir(filepath.Join(w.root, "pods/old"), 0o755))
	must(t, os.WriteFile(filepath.Join(w.root, "pods/file"), nil, 0o644))
	if got := w.Orphans(); len(got) != 2 || got[0] != "old" || got[1] != "uid-1" {
		t.Errorf("there are %q", got)
	}
	must(t, w.Unmount(t.Context(), "uid-1"))
	if got := w.Orphans(); len(got) != 2 {
		t.Errorf("with a directory there are still %q", got)
	}
	for _, uid := range w.Orphans() {
		must(t, w.Remove(t.Context(), uid))
	}
	if got := w.Orphans(); len(got) != 0 {
		t.Errorf("at last there are %q", got)
	}
	if len(w.pods) != 0 {
		t.Errorf("%d pods are known", len(w.pods))
	}
}

func TestFile(t *testing.T) {
	w := newWorld(t)
	defer unix.Umask(unix.Umask(0o077))
	hosts, err := w.File("uid-1", "etc-hosts", []byte("one"))
	must(t, err)
	before, err := os.Stat(hosts)
	must(t, err)
	again, err := w.File("uid-1", "etc-hosts", []byte("longer"))
	must(t, err)
	after, err := os.Stat(again)
	must(t, err)
	if data, _ := os.ReadFile(hosts); string(data) != "longer" || hosts != w.dir("etc-hosts") || !os.SameFile(before, after) || after.Mode() != 0o644 {
		t.Errorf("%s %q %v", hosts, data, after.Mode())
	}
	message, err := w.File("uid-1", "containers/c/0-hash", nil)
	must(t, err)
	if info, err := os.Stat(message); err != nil || info.Mode() != 0o666 || info.Size() != 0 {
		t.Errorf("%v %v", info, err)
	}
	// They outlive the volumes, not the directory.
	must(t, w.Unmount(t.Context(), "uid-1"))
	if _, err := os.Stat(message); err != nil {
		t.Error(err)
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	if len(w.pods) != 0 {
		t.Errorf("%d pods are known", len(w.pods))
	}
}

// Where mounting is not permitted, secrets are on disk and stay there.
func TestNoTmpfs(t *testing.T) {
	w := newWorld(t)
	w.setSecret("s", "k=v")
	var log strings.Builder
	w.dirs.log = slog.New(slog.NewTextHandler(&log, nil))
	w.dirs.step = func(what, path string) error {
		if what == "mount" {
			return &fs.PathError{Op: "mount", Path: path, Err: unix.EPERM}
		}
		return nil
	}
	p := podOf(t, `
containers: [{name: c}]
volumes:
- {name: s, secret: {secretName: s}}
- {name: t, secret: {secretName: s}}
`)
	w.mount(p)
	w.dirs.step = nil
	w.setSecret("s", "k=w")
	w.mount(p)
	w.expect("secret/s", "k=w")
	w.expect("secret/t", "k=w")
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines of log: %s", n, log.String())
	}
	if points, err := mountsBelow(w.dir("")); err != nil || len(points) != 0 {
		t.Errorf("mounted are %q, %v", points, err)
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

// After a reboot the mounts are gone, the directories not.
func TestReboot(t *testing.T) {
	w := newWorld(t)
	p := podOf(t, faultyPod)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	w.setSecret("s", "pass=word")
	w.expectMounted(p)
	must(t, os.WriteFile(w.vol("empty-dir/work/kept"), nil, 0o644))
	points, err := mountsBelow(w.root)
	must(t, err)
	for _, m := range points {
		must(t, unmount(m))
	}
	w.restart()
	w.expectMounted(p)
	if _, err := os.Stat(w.vol("empty-dir/work/kept")); err != nil {
		t.Error(err)
	}
}
