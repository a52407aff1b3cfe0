//go:build linux

package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// fakeMount puts a mount(8) on the path that mounts a tmpfs for what is to be NFS,
// and keeps a record; the server "gone" it does not reach. It returns the record.
func fakeMount(t *testing.T) (record func() string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "record")
	const script = `#!/bin/sh
line=$(printf '%s ' "$@" | sed "s|/[^ ]*/volumes/|DIR/|")
echo "$line" >>RECORD
case "$*" in *gone:*) echo "mount.nfs: Connection timed out" >&2; exit 32; esac
for last; do :; done
exec /usr/bin/env PATH=REST mount -t tmpfs tmpfs "$last"
`
	path := os.Getenv("PATH")
	must(t, os.WriteFile(filepath.Join(dir, "mount"), []byte(strings.NewReplacer("RECORD", file, "REST", path).Replace(script)), 0o755))
	t.Setenv("PATH", dir+":"+path)
	return func() string {
		data, _ := os.ReadFile(file)
		// They come in no order.
		lines := strings.SplitAfter(strings.ReplaceAll(string(data), " \n", "\n"), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
}

func TestNFS(t *testing.T) {
	record := fakeMount(t)
	w, c, _ := withClaims(t)
	c.pv.Spec.Local, c.pv.Spec.NFS = nil, &v1.NFSVolumeSource{Server: "fd00::1", Path: "/export"}
	c.pv.Spec.MountOptions = []string{"nfsvers=4.1", "hard", "hard"}
	p := podOf(t, `
securityContext: {fsGroup: 77}
containers:
- name: c
  volumeMounts: [{name: data, mountPath: /data}, {name: data, mountPath: /sub, subPath: in/new}, {name: own, mountPath: /own}]
volumes:
- {name: data, persistentVolumeClaim: {claimName: claim}}
- {name: own, nfs: {server: nfs.test, path: /a, readOnly: true}}
`)
	for range 2 {
		w.mount(p)
	}
	w.restart()
	w.Claims = c
	w.mount(p)
	const want = "-t nfs -o hard,nfsvers=4.1 [fd00::1]:/export DIR/kubernetes.io~nfs/pv\n" +
		"-t nfs -o ro nfs.test:/a DIR/kubernetes.io~nfs/own\n"
	if got := record(); got != want {
		t.Errorf("mounted\n%swant\n%s", got, want)
	}
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	must(t, err)
	if mounts[0].HostPath != w.vol("nfs/pv") || mounts[0].ReadOnly || mounts[1].HostPath != w.dir("volume-subpaths/pv/c/1") ||
		mounts[2].HostPath != w.vol("nfs/own") || !mounts[2].ReadOnly {
		t.Errorf("mounts %+v", mounts)
	}
	if _, gid := ownerOf(t, w.vol("nfs/pv")); gid == 77 {
		t.Error("what another machine exports was given to the group")
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}

func TestNFSServerGone(t *testing.T) {
	fakeMount(t)
	w := newWorld(t)
	p := podOf(t, "volumes: [{name: own, nfs: {server: gone, path: /a}}]")
	err := w.Mount(t.Context(), p)
	want := `MountVolume.SetUp failed for volume "own" : mount failed: exit status 32` + "\nMounting command: mount\nMounting arguments:  -t nfs gone:/a " +
		w.vol("nfs/own") + "\nOutput: mount.nfs: Connection timed out\n"
	if err == nil || strings.TrimRight(err.Error(), "\n") != strings.TrimRight(want, "\n") {
		t.Errorf("%v\nwant %s", err, want)
	}
	if _, err := os.Lstat(w.vol("nfs/own")); err == nil {
		t.Error("the directory is left")
	}
	must(t, w.Remove(t.Context(), "uid-1"))
	w.expectGone()
}
