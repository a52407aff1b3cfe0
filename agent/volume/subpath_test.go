//go:build linux

package volume

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

// outside is a directory that no pod may reach, with a secret in it.
func outside(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "outside")
	must(t, os.MkdirAll(filepath.Join(dir, "in"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("secret"), 0o644))
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// subPathPod mounts a path of an emptyDir "e", of a hostPath "h" and of a
// config map "m".
func subPathPod(t *testing.T, volume, sub, host string) *v1.Pod {
	p := podOf(t, `
containers: [{name: c, volumeMounts: [{name: v, mountPath: /v}]}]
volumes:
- {name: e, emptyDir: {}}
- {name: h, hostPath: {path: /}}
- {name: m, configMap: {name: cm}}
`)
	p.Spec.Volumes[1].HostPath.Path = host
	m := &p.Spec.Containers[0].VolumeMounts[0]
	m.Name, m.SubPath = volume, sub
	return p
}

func (w *world) bound(p *v1.Pod) (string, error) {
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	if err != nil {
		return "", err
	}
	return mounts[0].HostPath, nil
}

func TestSubPath(t *testing.T) {
	secret := outside(t)
	const prepareFailed = `failed to prepare subPath for volumeMount "@" of container "c"`
	for _, test := range []struct {
		name, volume, sub string
		// links are made in the volume: name=target.
		links string
		// want is what is in the bound file or directory, after the marker is
		// written to dir/inner; empty for the error.
		want, err string
	}{
		{name: "directory", volume: "e", sub: "dir", want: "marker"},
		{name: "unclean", volume: "e", sub: "./dir//", want: "marker"},
		{name: "all of it", volume: "e", sub: ".", want: "marker"},
		{name: "file", volume: "e", sub: "dir/inner", want: "marker"},
		{name: "made", volume: "e", sub: "new/deep", want: ""},
		{name: "made below a link", volume: "e", sub: "l/new", links: "l=dir", want: ""},
		{name: "link inside", volume: "e", sub: "l", links: "l=dir", want: "marker"},
		{name: "absolute link inside", volume: "e", sub: "l", links: "l=@dir", want: "marker"},
		{name: "link up and back", volume: "e", sub: "l", links: "l=dir/../dir", want: "marker"},
		{name: "key of a config map", volume: "m", sub: "k1", want: "v1"},
		{name: "of a hostPath", volume: "h", sub: "in", want: ""},

		{name: "backstep", volume: "e", sub: "../x", err: "unable to provision SubPath `../x`: must not contain '..'"},
		{name: "backstep inside", volume: "e", sub: "a/../../x", err: "unable to provision SubPath `a/../../x`: must not contain '..'"},
		{name: "absolute", volume: "e", sub: "/etc", err: "error SubPath `/etc` must not be an absolute path"},
		{name: "link out", volume: "e", sub: "l", links: "l=" + secret, err: prepareFailed},
		{name: "link out to a file", volume: "e", sub: "l", links: "l=" + secret + "/file", err: prepareFailed},
		{name: "through a link out", volume: "e", sub: "l/in", links: "l=" + secret, err: prepareFailed},
		{name: "made through a link out", volume: "e", sub: "l/new", links: "l=" + secret, err: prepareFailed},
		{name: "relative link out", volume: "e", sub: "l", links: "l=../../..", err: prepareFailed},
		{name: "two links out", volume: "e", sub: "b", links: "a=.. b=a/..", err: prepareFailed},
		{name: "link to nothing", volume: "e", sub: "l", links: "l=nowhere", err: prepareFailed},
		{name: "link to nothing outside", volume: "e", sub: "l/new", links: "l=" + secret + "/nowhere", err: prepareFailed},
		{name: "loop", volume: "e", sub: "a", links: "a=b b=a", err: prepareFailed},
		{name: "below a file", volume: "e", sub: "dir/inner/x", err: prepareFailed},
		{name: "of proc", volume: "e", sub: "l", links: "l=/proc/self/root", err: prepareFailed},
		{name: "missing key", volume: "m", sub: "nokey", err: prepareFailed},
		{name: "neighbour by name", volume: "e", sub: "l", links: "l=@/../e2", err: prepareFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.setConfigMap("cm", "k1=v1")
			p := subPathPod(t, test.volume, test.sub, secret)
			w.mount(p)
			e := w.vol("empty-dir/e")
			must(t, os.Mkdir(filepath.Join(filepath.Dir(e), "e2"), 0o755))
			must(t, os.Mkdir(filepath.Join(e, "dir"), 0o755))
			must(t, os.WriteFile(filepath.Join(e, "dir/inner"), []byte("marker"), 0o644))
			for link := range strings.FieldsSeq(test.links) {
				name, target, _ := strings.Cut(link, "=")
				must(t, os.Symlink(strings.ReplaceAll(target, "@", e+"/"), filepath.Join(e, name)))
			}
			before := tree(t, secret)
			for range 2 {
				got, err := w.bound(p)
				if test.err != "" {
					if want := strings.ReplaceAll(test.err, "@", test.volume); err == nil || err.Error() != want {
						t.Errorf("error %v, want %s", err, want)
					}
					if after := tree(t, secret); after != before {
						t.Errorf("outside was changed from %s to %s", before, after)
					}
					continue
				}
				must(t, err)
				info, err := os.Lstat(got)
				must(t, err)
				if info.IsDir() {
					if filepath.Base(got) == "e" {
						got = filepath.Join(got, "dir")
					}
					if test.want != "" {
						got = filepath.Join(got, "inner")
					}
				}
				if test.want == "" {
					continue
				}
				if data, err := os.ReadFile(got); err != nil || string(data) != test.want {
					t.Errorf("read %q, %v", data, err)
				}
			}
			if points, err := mountsBelow(w.dir(subPathsDir)); err != nil || len(points) > 1 {
				t.Errorf("mounted are %q, %v", points, err)
			}
			must(t, w.Remove(t.Context(), "uid-1"))
			if _, err := os.Stat(filepath.Join(secret, "file")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Made directories are as their volume, so that the pod's users can use them.
func TestSubPathIsMadeLikeItsVolume(t *testing.T) {
	w := newWorld(t)
	defer unix.Umask(unix.Umask(0o077))
	p := subPathPod(t, "e", "a/b", "")
	group := int64(77)
	p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: &group}
	p.Spec.Volumes = p.Spec.Volumes[:1]
	w.mount(p)
	got, err := w.bound(p)
	must(t, err)
	for _, dir := range []string{got, w.vol("empty-dir/e/a"), w.vol("empty-dir/e")} {
		info, err := os.Stat(dir)
		must(t, err)
		if _, gid := ownerOf(t, dir); info.Mode() != os.ModeDir|os.ModeSetgid|0o777 || gid != 77 {
			t.Errorf("%s has mode %v and group %d", dir, info.Mode(), gid)
		}
	}
}

// When the path leads to something else, the next container gets that; one that
// runs keeps what it has.
func TestSubPathFollowsItsFile(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1")
	p := subPathPod(t, "m", "k1", "")
	p.Spec.Volumes = p.Spec.Volumes[2:]
	w.mount(p)
	got, err := w.bound(p)
	must(t, err)
	running, err := os.Open(got)
	must(t, err)
	defer running.Close()
	w.setConfigMap("cm", "k1=v2")
	w.mount(p)
	if data, _ := os.ReadFile(got); string(data) != "v1" {
		t.Errorf("the running container reads %q", data)
	}
	again, err := w.bound(p)
	must(t, err)
	if data, _ := os.ReadFile(again); again != got || string(data) != "v2" {
		t.Errorf("the next container reads %q", data)
	}
	buf := make([]byte, 2)
	if _, err := running.ReadAt(buf, 0); err != nil || string(buf) != "v1" {
		t.Errorf("the running container reads %q, %v", buf, err)
	}
	if points, err := mountsBelow(w.dir("")); err != nil || len(points) != 1 {
		t.Errorf("mounted are %q, %v", points, err)
	}
}

// A file where there was a directory, and back.
func TestSubPathChangesType(t *testing.T) {
	w := newWorld(t)
	p := subPathPod(t, "e", "x", "")
	p.Spec.Volumes = p.Spec.Volumes[:1]
	w.mount(p)
	x := w.vol("empty-dir/e/x")
	for i := range 4 {
		must(t, os.RemoveAll(x))
		if i%2 == 0 {
			must(t, os.WriteFile(x, []byte("file"), 0o644))
		} else {
			must(t, os.Mkdir(x, 0o755))
		}
		got, err := w.bound(p)
		must(t, err)
		if info, err := os.Stat(got); err != nil || info.IsDir() != (i%2 == 1) {
			t.Errorf("%d: %v %v", i, info, err)
		}
	}
}

// A container exchanges a directory for a link out all the time. What is bound
// is never outside, and nothing is made there.
func TestSubPathRace(t *testing.T) {
	for _, sub := range []string{"a", "a/in"} {
		t.Run(sub, func(t *testing.T) { raceFor(t, sub) })
	}
}

func raceFor(t *testing.T, sub string) {
	w := newWorld(t)
	secret := outside(t)
	p := subPathPod(t, "e", sub, "")
	p.Spec.Volumes = p.Spec.Volumes[:1]
	w.mount(p)
	e := w.vol("empty-dir/e")
	must(t, os.MkdirAll(filepath.Join(e, "real/in"), 0o755))
	must(t, os.Symlink(secret, filepath.Join(e, "link")))
	must(t, os.MkdirAll(filepath.Join(e, "a/in"), 0o755))
	var evil sync.WaitGroup
	stop := make(chan struct{})
	exchange := func(a, b string) {
		_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(e, a), unix.AT_FDCWD, filepath.Join(e, b), unix.RENAME_EXCHANGE)
	}
	evil.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				exchange("a", "link")
				exchange("a", "real")
			}
		}
	})
	out, err := os.Stat(filepath.Join(secret, strings.TrimPrefix(sub, "a")))
	must(t, err)
	fine, refused := 0, 0
	for range 2000 {
		got, err := w.bound(p)
		if err != nil {
			refused++
			continue
		}
		fine++
		info, err := os.Lstat(got)
		must(t, err)
		if os.SameFile(info, out) || info.Mode()&os.ModeSymlink != 0 {
			t.Fatalf("bound what is outside: %v", info)
		}
	}
	close(stop)
	evil.Wait()
	if fine == 0 || refused == 0 {
		t.Errorf("%d were bound and %d refused: not a race", fine, refused)
	}
}

// The same where directories have to be made.
func TestSubPathRaceOfMaking(t *testing.T) {
	w := newWorld(t)
	secret := outside(t)
	p := subPathPod(t, "e", "a/new/er", "")
	p.Spec.Volumes = p.Spec.Volumes[:1]
	w.mount(p)
	e := w.vol("empty-dir/e")
	must(t, os.Mkdir(filepath.Join(e, "a"), 0o755))
	must(t, os.Symlink(secret, filepath.Join(e, "link")))
	var evil sync.WaitGroup
	stop := make(chan struct{})
	evil.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(e, "a"), unix.AT_FDCWD, filepath.Join(e, "link"), unix.RENAME_EXCHANGE)
				_ = os.RemoveAll(filepath.Join(e, "a", "new"))
			}
		}
	})
	fine := 0
	for range 2000 {
		if _, err := w.bound(p); err == nil {
			fine++
		}
		if _, err := os.Lstat(filepath.Join(secret, "new")); err == nil {
			// The race's own RemoveAll may follow the link, but makes nothing.
			t.Fatal("made a directory outside")
		}
	}
	close(stop)
	evil.Wait()
	if fine == 0 {
		t.Error("nothing was bound")
	}
}

func TestMounts(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1")
	both := v1.MountPropagationBidirectional
	enabled := v1.RecursiveReadOnlyEnabled
	for name, test := range map[string]struct {
		mount v1.VolumeMount
		want  podruntime.Mount
		err   string
	}{
		"relative path": {v1.VolumeMount{Name: "e", MountPath: "data"},
			podruntime.Mount{HostPath: w.vol("empty-dir/e"), ContainerPath: "/data"}, ""},
		"read-only": {v1.VolumeMount{Name: "e", MountPath: "/data", ReadOnly: true},
			podruntime.Mount{HostPath: w.vol("empty-dir/e"), ContainerPath: "/data", ReadOnly: true}, ""},
		"files are read-only": {v1.VolumeMount{Name: "m", MountPath: "/data"},
			podruntime.Mount{HostPath: w.vol("configmap/m"), ContainerPath: "/data", ReadOnly: true}, ""},
		"propagation": {v1.VolumeMount{Name: "h", MountPath: "/data", MountPropagation: &both},
			podruntime.Mount{HostPath: "/", ContainerPath: "/data", Propagation: both}, ""},
		"expanded": {v1.VolumeMount{Name: "e", MountPath: "/data", SubPathExpr: "$(A)/x"},
			podruntime.Mount{HostPath: w.dir("volume-subpaths/e/c/0"), ContainerPath: "/data"}, ""},
		"expanded out": {v1.VolumeMount{Name: "e", MountPath: "/data", SubPathExpr: "$(UP)/x"},
			podruntime.Mount{}, "unable to provision SubPath `../x`: must not contain '..'"},
		"missing variable": {v1.VolumeMount{Name: "e", MountPath: "/data", SubPathExpr: "$(B)/x"},
			podruntime.Mount{}, "missing value for B"},
		"no such volume": {v1.VolumeMount{Name: "no", MountPath: "/data"},
			podruntime.Mount{}, `cannot find volume "no" to mount into container "c"`},
		"recursively read-only, but not read-only": {v1.VolumeMount{Name: "e", MountPath: "/data", RecursiveReadOnly: &enabled},
			podruntime.Mount{}, `failed to resolve recursive read-only mode: volume "e" requested recursive read-only mode, but it is not read-only`},
	} {
		t.Run(name, func(t *testing.T) {
			p := subPathPod(t, "e", "", "/")
			p.Spec.Containers[0].VolumeMounts[0] = test.mount
			w.mount(p)
			got, err := w.Mounts(p, &p.Spec.Containers[0], []podruntime.EnvVar{{Name: "A", Value: "a"}, {Name: "UP", Value: ".."}})
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Errorf("error %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || len(got) != 1 || got[0] != test.want {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
	unknown := subPathPod(t, "e", "", "/")
	unknown.UID = "other"
	if _, err := w.Mounts(unknown, &unknown.Spec.Containers[0], nil); err == nil {
		t.Error("mounts of a pod that was not mounted")
	}
	if len(w.pods) != 1 {
		t.Errorf("%d pods are known", len(w.pods))
	}
}
