//go:build linux

package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nested is a directory of the machine with a file system mounted in it, both with a
// file.
func nested(t *testing.T) string {
	t.Helper()
	host := filepath.Join(t.TempDir(), "host")
	must(t, os.MkdirAll(filepath.Join(host, "plain"), 0o755))
	must(t, os.WriteFile(filepath.Join(host, "plain/f"), []byte("outer"), 0o644))
	// Shared, as a machine's file systems are with systemd.
	must(t, unix.Mount(host, host, "", unix.MS_BIND, ""))
	must(t, unix.Mount("", host, "", unix.MS_SHARED, ""))
	foreign(t, filepath.Join(host, "mnt"))
	t.Cleanup(func() {
		mounts, err := mountsBelow(host)
		must(t, err)
		for _, m := range mounts {
			must(t, detach(m))
		}
	})
	return host
}

func readOnlyPod(t *testing.T, host string) *v1.Pod {
	return podOf(t, fmt.Sprintf(`
containers:
- name: c
  volumeMounts:
  - {name: host, mountPath: /a, readOnly: true, recursiveReadOnly: Enabled}
  - {name: host, mountPath: /b, readOnly: true}
  - {name: host, mountPath: /c, readOnly: true, recursiveReadOnly: IfPossible, subPath: plain}
  - {name: file, mountPath: /d, readOnly: true, recursiveReadOnly: Enabled}
  - {name: work, mountPath: /e, readOnly: true, recursiveReadOnly: Enabled}
volumes:
- {name: host, hostPath: {path: %q}}
- {name: file, hostPath: {path: %q}}
- {name: work, emptyDir: {}}
`, host, host+"/plain/f"))
}

// paths are what the pod's container gets bound.
func (w *world) paths(p *v1.Pod) []string {
	w.t.Helper()
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	must(w.t, err)
	var paths []string
	for _, m := range mounts {
		paths = append(paths, m.HostPath)
	}
	return paths
}

// mayWrite reports whether a file can be made in a directory.
func mayWrite(t *testing.T, dir string) bool {
	t.Helper()
	name := filepath.Join(dir, "probe")
	err := os.WriteFile(name, nil, 0o644)
	if err == nil {
		must(t, os.Remove(name))
	} else if !errors.Is(err, unix.EROFS) {
		t.Fatal(err)
	}
	return err == nil
}

// A mount that is read-only in all its depth does not change what it is of, is made
// anew for each incarnation, and goes with the pod, which changes nothing there.
func TestRecursiveReadOnly(t *testing.T) {
	w := newWorld(t)
	if !w.RecursiveReadOnly() {
		t.Fatal("not supported by this kernel")
	}
	host := nested(t)
	p := readOnlyPod(t, host)
	w.mount(p)
	paths := w.paths(p)
	for dir, want := range map[string]bool{
		paths[0]: false, paths[0] + "/mnt": false, paths[0] + "/plain": false, paths[1] + "/mnt": true, paths[2]: false, paths[4]: false,
		host: true, host + "/mnt": true, w.vol("empty-dir/work"): true,
	} {
		if got := mayWrite(t, dir); got != want {
			t.Errorf("%s: writable is %v", dir, got)
		}
	}
	if err := os.WriteFile(paths[3], nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing the file: %v", err)
	}
	if data, err := os.ReadFile(paths[0] + "/mnt/precious"); err != nil || string(data) != "data" {
		t.Errorf("read %q, %v", data, err)
	}
	// What comes later is for the next incarnation.
	foreign(t, filepath.Join(host, "later"))
	if _, err := os.Stat(paths[0] + "/later/precious"); !os.IsNotExist(err) {
		t.Errorf("the mount that came later: %v", err)
	}
	before, err := mountsBelow(w.dir(""))
	must(t, err)
	again := w.paths(p)
	if again[0] != paths[0] || mayWrite(t, again[0]+"/later") {
		t.Errorf("%s, then %s", paths[0], again[0])
	}
	if after, err := mountsBelow(w.dir("")); err != nil || len(after) != len(before)+1 {
		t.Errorf("mounts %q, before %q, %v", after, before, err)
	}
	// Nobody who looks on holds it up.
	onlooker, err := os.Open(again[0] + "/mnt/precious")
	must(t, err)
	defer onlooker.Close()
	must(t, w.Unmount(t.Context(), "uid-1"))
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
	for _, file := range []string{"plain/f", "mnt/precious", "later/precious"} {
		if _, err := os.Stat(filepath.Join(host, file)); err != nil {
			t.Errorf("the machine has lost %v", err)
		}
	}
}

// Pods that have the whole machine mounted do not copy each other's copies: that
// would double the mounts with each.
func TestReadOnlyCopiesAreNotCopied(t *testing.T) {
	w := newWorld(t)
	root := filepath.Dir(w.root)
	foreign(t, filepath.Join(root, "kubelet"))
	host := nested(t)
	must(t, os.MkdirAll(filepath.Join(root, "bound"), 0o755))
	must(t, unix.Mount(host, filepath.Join(root, "bound"), "", unix.MS_BIND|unix.MS_REC, ""))
	t.Cleanup(func() { must(t, detach(filepath.Join(root, "bound"))) })
	counts := []int{}
	for i := range 4 {
		p := readOnlyPod(t, root)
		p.UID = types.UID(fmt.Sprintf("uid-%d", i))
		p.Spec.Volumes = p.Spec.Volumes[:1]
		p.Spec.Containers[0].VolumeMounts = p.Spec.Containers[0].VolumeMounts[:1]
		w.mount(p)
		w.paths(p)
		mounts, err := mountsBelow(filepath.Join(w.root, "pods", string(p.UID)))
		must(t, err)
		counts = append(counts, len(mounts))
	}
	for _, n := range counts {
		if n != counts[0] {
			t.Errorf("the pods have %v mounts", counts)
			break
		}
	}
}

// Where the kernel cannot do it, it is done only if it need not be.
func TestRecursiveReadOnlyUnsupported(t *testing.T) {
	w := newWorld(t)
	w.Manager = w.manager(unable{w.dirs})
	p := readOnlyPod(t, nested(t))
	w.mount(p)
	_, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	want := `failed to resolve recursive read-only mode: volume "host" requested recursive read-only mode, but it is not supported by the runtime`
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	p.Spec.Containers[0].VolumeMounts = p.Spec.Containers[0].VolumeMounts[1:3]
	if paths := w.paths(p); strings.Contains(paths[1], readOnlyDir) {
		t.Errorf("mounted from %q", paths)
	}
}

// unable is a Store on an old kernel.
type unable struct{ *Dirs }

func (unable) RecursiveReadOnly() bool { return false }

// Whatever stops the agent, the next try gets there, and no host loses a file.
func TestReadOnlyStopsAnywhere(t *testing.T) {
	t.Parallel()
	host := nested(t)
	p := readOnlyPod(t, host)
	intact := func(w *world) {
		w.t.Helper()
		if !mayWrite(w.t, host) || !mayWrite(w.t, host+"/mnt") {
			w.t.Error("the machine's own directory has become read-only")
		}
		for _, file := range []string{"plain/f", "mnt/precious"} {
			if _, err := os.Stat(filepath.Join(host, file)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	expect := func(w *world) {
		w.t.Helper()
		w.mount(p)
		paths := w.paths(p)
		if mayWrite(w.t, paths[0]+"/mnt") || mayWrite(w.t, paths[2]) {
			w.t.Error("writable")
		}
		intact(w)
	}
	mounts := func(w *world) error {
		if err := w.Mount(w.t.Context(), p); err != nil {
			return err
		}
		if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err != nil {
			return errStopped
		}
		return nil
	}
	everyStep(t, newWorld, func(w *world) error { return errors.Join(mounts(w), mounts(w)) }, intact, func(w *world) { expect(w); expect(w) })
	remove := func(w *world) error {
		return errors.Join(w.Unmount(w.t.Context(), "uid-1"), w.Remove(w.t.Context(), "uid-1"))
	}
	everyStep(t, func(t *testing.T) *world {
		w := newWorld(t)
		expect(w)
		return w
	}, remove, intact, func(w *world) {
		must(w.t, remove(w))
		w.expectGone()
		intact(w)
	})
}
