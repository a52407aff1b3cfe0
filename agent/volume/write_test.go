//go:build linux

package volume

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "k8s.io/api/core/v1"
)

// filesPod shows the config map cm in a volume and mounts others below it.
const filesPod = `
containers: [{name: c, volumeMounts: [{name: config, mountPath: /config}]}]
volumes: [{name: config, configMap: {name: cm}}]
`

func (w *world) set() string {
	w.t.Helper()
	set, err := os.Readlink(w.vol("configmap/config/..data"))
	must(w.t, err)
	return set
}

func TestLayout(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1")
	p := podOf(t, `
containers: [{name: c}]
volumes: [{name: config, configMap: {name: cm, items: [{key: k1, path: a/b/c}, {key: k1, path: top}]}}]
`)
	w.mount(p)
	dir := w.vol("configmap/config")
	set := w.set()
	if !strings.HasPrefix(set, "..20") || strings.Contains(set, "/") {
		t.Errorf("..data leads to %s", set)
	}
	for link, want := range map[string]string{"a": "..data/a", "top": "..data/top"} {
		if got, err := os.Readlink(filepath.Join(dir, link)); err != nil || got != want {
			t.Errorf("%s leads to %s, %v", link, got, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Errorf("there are %v, %v", entries, err)
	}
	w.expect("configmap/config", "a/b/c=v1 top=v1")
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "same=1", "changed=1", "gone=1")
	p := podOf(t, filesPod)
	w.mount(p)
	w.expect("configmap/config", "changed=1 gone=1 same=1")
	first := w.set()
	w.mount(p)
	w.restart()
	w.mount(p)
	if set := w.set(); set != first {
		t.Errorf("what did not change was written again: %s, then %s", first, set)
	}
	for _, pairs := range [][]string{{"same=1", "changed=2", "new=1"}, {"same=1", "changed=2"}, {"same=1", "changed=3"}, {}, {"k=v"}} {
		before := w.set()
		w.setConfigMap("cm", pairs...)
		w.mount(p)
		want := podFiles(pairs)
		w.expect("configmap/config", want)
		if w.set() == before {
			t.Errorf("%s is in the set of before", want)
		}
		w.noLeftovers()
	}
}

func podFiles(pairs []string) string {
	sorted := append([]string(nil), pairs...)
	for i := range sorted {
		for j := range i {
			if sorted[i] < sorted[j] {
				sorted[i], sorted[j] = sorted[j], sorted[i]
			}
		}
	}
	return strings.Join(sorted, " ")
}

// Somebody on the machine meddled with the files.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	p := podOf(t, filesPod)
	w.mount(p)
	dir := w.vol("configmap/config")
	for name, harm := range map[string]func() error{
		"link removed":    func() error { return os.Remove(filepath.Join(dir, "k1")) },
		"file removed":    func() error { return os.Remove(filepath.Join(dir, "..data/k1")) },
		"file changed":    func() error { return os.WriteFile(filepath.Join(dir, "k1"), []byte("evil"), 0o644) },
		"file renamed":    func() error { return os.Rename(filepath.Join(dir, "..data/k1"), filepath.Join(dir, "..data/k3")) },
		"file more":       func() error { return os.WriteFile(filepath.Join(dir, "..data/k3"), nil, 0o644) },
		"set removed":     func() error { return os.RemoveAll(filepath.Join(dir, w.set())) },
		"data removed":    func() error { return os.Remove(filepath.Join(dir, dataLink)) },
		"volume removed":  func() error { return os.RemoveAll(dir) },
		"link more":       func() error { return os.Symlink("..data/k3", filepath.Join(dir, "k3")) },
		"unfinished":      func() error { return os.Mkdir(filepath.Join(dir, "..2001_01_01_00_00_00.1"), 0o755) },
		"unfinished link": func() error { return os.Symlink("..2001", filepath.Join(dir, newDataLink)) },
		"data leads out": func() error {
			os.Remove(filepath.Join(dir, dataLink))
			return os.Symlink("../..", filepath.Join(dir, dataLink))
		},
		"file is a folder": func() error { f := filepath.Join(dir, w.set(), "k1"); os.Remove(f); return os.Mkdir(f, 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			must(t, harm())
			w.mount(p)
			w.expect("configmap/config", "k1=v1 k2=v2")
			w.noLeftovers()
			if _, err := os.Stat(w.dir("volumes")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A reader that goes through ..data sees one of the sets that ever were, whole.
func TestReadersSeeWholeSets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const keys = 20
	version := func(n int) {
		var pairs []string
		for k := range keys {
			pairs = append(pairs, "k"+strconv.Itoa(k)+"="+strconv.Itoa(n))
		}
		w.setConfigMap("cm", pairs...)
	}
	version(0)
	p := podOf(t, filesPod)
	w.mount(p)
	dir := w.vol("configmap/config")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var whole [2]int
	for i := range whole {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				set, err := os.Readlink(filepath.Join(dir, dataLink))
				if err != nil {
					t.Errorf("..data is gone: %v", err)
					return
				}
				seen := map[string]int{}
				for k := range keys {
					data, err := os.ReadFile(filepath.Join(dir, set, "k"+strconv.Itoa(k)))
					if errors.Is(err, fs.ErrNotExist) {
						// The set is being removed: it must not be the current one.
						if now, err := os.Readlink(filepath.Join(dir, dataLink)); err != nil || now == set {
							t.Errorf("the current set is not whole: %v", err)
						}
						seen = nil
						break
					}
					seen[string(data)]++
				}
				if seen != nil {
					whole[i]++
				}
				if len(seen) > 1 {
					t.Errorf("a mixture: %v", seen)
				}
			}
		})
	}
	for n := range 200 {
		version(n + 1)
		w.mount(p)
	}
	close(stop)
	readers.Wait()
	if whole[0] == 0 || whole[1] == 0 {
		t.Errorf("read %v whole sets", whole)
	}
}

func TestModesAndOwners(t *testing.T) {
	group, user, other := int64(77), int64(1000), int64(2000)
	type want struct {
		mode     fs.FileMode
		uid, gid int
	}
	for name, test := range map[string]struct {
		group          *int64
		podUser, cUser *int64
		token, plain   want
		second         bool
	}{
		"root":             {token: want{0o644, 0, 0}, plain: want{0o400, 0, 0}},
		"group":            {group: &group, token: want{0o640, 0, 77}, plain: want{0o440, 0, 77}},
		"user":             {podUser: &user, token: want{0o600, 1000, 0}, plain: want{0o400, 0, 0}},
		"container's user": {cUser: &user, token: want{0o600, 1000, 0}, plain: want{0o400, 0, 0}},
		"both":             {group: &group, podUser: &user, token: want{0o640, 1000, 77}, plain: want{0o440, 0, 77}},
		"users differ":     {podUser: &other, cUser: &user, second: true, token: want{0o644, 0, 0}, plain: want{0o400, 0, 0}},
		"one does not say": {cUser: &user, second: true, token: want{0o644, 0, 0}, plain: want{0o400, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.setSecret("s", "k=v")
			p := podOf(t, `
serviceAccountName: sa
containers: [{name: c}]
volumes:
- name: all
  projected:
    sources:
    - serviceAccountToken: {path: d/token, expirationSeconds: 3600}
    - secret: {name: s, items: [{key: k, path: d/k, mode: 0400}, {key: k, path: k}]}
`)
			p.Spec.SecurityContext = &v1.PodSecurityContext{FSGroup: test.group, RunAsUser: test.podUser}
			p.Spec.Containers[0].SecurityContext = &v1.SecurityContext{RunAsUser: test.cUser}
			if test.second {
				p.Spec.InitContainers = []v1.Container{{Name: "other"}}
			}
			w.mount(p)
			dir := w.vol("projected/all")
			for file, want := range map[string]want{"d/token": test.token, "d/k": test.plain, "k": {0o644, 0, test.plain.gid}} {
				info, err := os.Stat(filepath.Join(dir, file))
				must(t, err)
				real, err := filepath.EvalSymlinks(filepath.Join(dir, file))
				must(t, err)
				uid, gid := ownerOf(t, real)
				if info.Mode() != want.mode || uid != want.uid || gid != want.gid {
					t.Errorf("%s has %v %d:%d, want %v", file, info.Mode(), uid, gid, want)
				}
			}
			for _, d := range []string{dir, filepath.Join(dir, "..data/d")} {
				info, err := os.Stat(d)
				must(t, err)
				if setgid := info.Mode()&fs.ModeSetgid != 0; setgid != (test.group != nil) || info.Mode().Perm()&0o755 != 0o755 {
					t.Errorf("%s has mode %v", d, info.Mode())
				}
			}
		})
	}
}

// Volumes are mounted below a read-only one.
func TestNestedMountPoints(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1", "sub=file")
	p := podOf(t, `
initContainers: [{name: i, volumeMounts: [{name: config, mountPath: /}, {name: e, mountPath: /from/init}]}]
containers:
- name: c
  volumeMounts:
  - {name: config, mountPath: conf/}
  - {name: e, mountPath: /conf/a/b}
  - {name: e, mountPath: /conf/a/b/c}
  - {name: e, mountPath: /conf/../conf/d}
  - {name: e, mountPath: /configuration}
  - {name: e, mountPath: /conf/../../../../out}
  - {name: config, mountPath: /elsewhere, subPath: k1}
  - {name: e, mountPath: /elsewhere/x}
ephemeralContainers: [{name: d, volumeMounts: [{name: config, mountPath: /c}, {name: e, mountPath: /c/debug}]}]
volumes: [{name: config, configMap: {name: cm}}, {name: e, emptyDir: {}}]
`)
	for range 2 {
		w.mount(p)
		var dirs []string
		dir := w.vol("configmap/config")
		must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
			if e.IsDir() && p != dir && !strings.HasPrefix(e.Name(), "..") {
				rel, _ := filepath.Rel(dir, p)
				dirs = append(dirs, rel)
			}
			return err
		}))
		// Below "/" all other mounts of the container are nested.
		if got := strings.Join(dirs, " "); got != "a a/b a/b/c d debug from from/init" {
			t.Errorf("made %s", got)
		}
		w.expect("configmap/config", "k1=v1 sub=file")
	}
}

func TestOneBrokenVolumeDoesNotStopOthers(t *testing.T) {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1")
	p := podOf(t, `
containers: [{name: c}]
volumes:
- {name: a, configMap: {name: none}}
- {name: config, configMap: {name: cm}}
- {name: z, iscsi: {targetPortal: s, iqn: i, lun: 0}}
`)
	err := w.Mount(t.Context(), p)
	const want = "MountVolume.SetUp failed for volume \"a\" : configmap \"none\" not found\n" +
		"MountVolume.SetUp failed for volume \"z\" : unsupported volume type \"iscsi\""
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	w.expect("configmap/config", "k1=v1")
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"a", "a/b", "..", "../a", "a/..", "a/../b", "/a", "..data", "..data/x", ".", "./..x", "...", "a//b", "a\x00", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		clean, err := cleanPath(s)
		if err != nil {
			return
		}
		if !filepath.IsLocal(clean) || clean == "." || filepath.Clean(clean) != clean || strings.HasPrefix(clean, "..") {
			t.Errorf("%q became %q", s, clean)
		}
		if again, err := cleanPath(clean); err != nil || again != clean {
			t.Errorf("%q became %q, then %q, %v", s, clean, again, err)
		}
	})
}

// Whatever the files are named, nothing is written outside of the volume, and
// what cleanPath lets through can be written.
func FuzzWrite(f *testing.F) {
	f.Add("a", "b/c", uint64(1))
	f.Add("..data", "..2026", uint64(2))
	f.Add("a", "a/b", uint64(3))
	f.Add("x/../../y", "z", uint64(4))
	f.Fuzz(func(t *testing.T, a, b string, seed uint64) {
		root := t.TempDir()
		d := NewDirs(root, nil)
		v := &Volume{Pod: "u", Name: "v", Kind: ConfigMap, Files: map[string]File{}}
		for _, name := range []string{a, b} {
			if clean, err := cleanPath(name); err == nil {
				v.Files[clean] = File{Data: []byte(name), Mode: 0o644}
			}
		}
		err := d.SetUp(v)
		conflict := false
		for x := range v.Files {
			for y := range v.Files {
				conflict = conflict || strings.HasPrefix(y, x+"/")
			}
		}
		if err != nil && !conflict {
			t.Fatalf("%v: %v", v.Files, err)
		}
		dir := filepath.Join(root, "pods/u/volumes/kubernetes.io~configmap/v")
		for name, file := range v.Files {
			if data, err := os.ReadFile(filepath.Join(dir, name)); !conflict && (err != nil || string(data) != string(file.Data)) {
				t.Errorf("%q: %q, %v", name, data, err)
			}
		}
		must(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !strings.HasPrefix(p, dir+"/") {
				t.Errorf("outside: %s", p)
			}
			return err
		}))
		// Any other set replaces it.
		r := rand.New(rand.NewPCG(seed, seed))
		v.Files = map[string]File{"f" + strconv.Itoa(r.IntN(3)): {Mode: 0o600}}
		must(t, d.SetUp(v))
		if got := strings.Count(tree(t, dir), "="); got != 1 {
			t.Errorf("%d files", got)
		}
	})
}
