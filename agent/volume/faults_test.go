//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

var errStopped = errors.New("stopped")

// breakAt makes the n-th change of the file system fail, and with crash all that
// follow. It returns whether it has come to that.
func (w *world) breakAt(n int, crash bool) (reached func() bool) {
	var mu sync.Mutex
	var count int
	w.dirs.step = func(string, string) error {
		mu.Lock()
		defer mu.Unlock()
		count++
		if count == n || crash && count > n {
			return errStopped
		}
		return nil
	}
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return count >= n
	}
}

// everyStep plays a call with each of its steps failing: alone, the same agent
// going on; or as a crash, another one taking over. prepare makes the world,
// check looks at what the failure left, recover does it again and looks.
func everyStep(t *testing.T, prepare func(t *testing.T) *world, call func(w *world) error, check, recover func(w *world)) {
	for _, crash := range []bool{false, true} {
		steps := 0
		for n := 1; ; n++ {
			reached := true
			passed := t.Run(fmt.Sprintf("crash=%v/%d", crash, n), func(t *testing.T) {
				w := prepare(t)
				came := w.breakAt(n, crash)
				err := call(w)
				if reached = came(); reached && !errors.Is(err, errStopped) {
					t.Errorf("step %d failed, but the call said %v", n, err)
				}
				if crash {
					w.restart()
				}
				w.dirs.step = nil
				check(w)
				recover(w)
			})
			if !passed {
				// What failed may have been at every step.
				return
			}
			if !reached {
				break
			}
			steps++
		}
		if steps < 5 {
			t.Errorf("only %d steps", steps)
		}
	}
}

const faultyPod = `
securityContext: {fsGroup: 77}
containers:
- name: c
  volumeMounts:
  - {name: work, mountPath: /sub, subPath: a/b}
  - {name: config, mountPath: /config}
  - {name: config, mountPath: /one, subPath: k1}
  - {name: config, mountPath: /config/nested}
volumes:
- {name: work, emptyDir: {}}
- {name: ram, emptyDir: {medium: Memory}}
- {name: config, configMap: {name: cm}}
- name: all
  projected:
    sources:
    - configMap: {name: cm, items: [{key: k1, path: deep/er/k1}]}
    - secret: {name: s}
`

func preparedFault(t *testing.T) *world {
	w := newWorld(t)
	w.setConfigMap("cm", "k1=v1", "k2=v2")
	w.setSecret("s", "pass=word")
	return w
}

// noLeftovers looks for what only a call under way may have.
func (w *world) noLeftovers() {
	w.t.Helper()
	sets := map[string]int{}
	err := filepath.WalkDir(w.dir("volumes"), func(p string, e fs.DirEntry, err error) error {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, newPrefix) || name == newDataLink:
			w.t.Errorf("left behind: %s", p)
		case e.IsDir() && strings.HasPrefix(name, stampPrefix):
			if sets[filepath.Dir(p)]++; sets[filepath.Dir(p)] > 1 {
				w.t.Errorf("left behind: a set beside %s", p)
			}
		}
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}

func (w *world) expectMounted(p *v1.Pod) {
	w.t.Helper()
	w.mount(p)
	w.expect("configmap/config", "k1=v1 k2=v2")
	w.expect("projected/all", "deep/er/k1=v1 pass=word")
	w.noLeftovers()
	for kindName, want := range map[string]fs.FileMode{
		"empty-dir/work": 0o777, "empty-dir/ram": 0o777, "configmap/config": 0o775, "projected/all": 0o775,
	} {
		info, err := os.Stat(w.vol(kindName))
		if err != nil {
			w.t.Fatal(err)
		}
		if info.Mode() != fs.ModeDir|fs.ModeSetgid|want {
			w.t.Errorf("%s has mode %v", kindName, info.Mode())
		}
		if _, gid := ownerOf(w.t, w.vol(kindName)); gid != 77 {
			w.t.Errorf("%s has group %d", kindName, gid)
		}
	}
	mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if data, err := os.ReadFile(mounts[2].HostPath); err != nil || string(data) != "v1" {
		w.t.Errorf("subPath: %q %v", data, err)
	}
	points, err := mountsBelow(w.dir(""))
	if err != nil || len(points) != 4 {
		w.t.Errorf("mounted are %q, %v", points, err)
	}
}

func ownerOf(t testing.TB, path string) (uid, gid int) {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		t.Fatal(err)
	}
	return int(s.Uid), int(s.Gid)
}

func TestMountStopsAnywhere(t *testing.T) {
	t.Parallel()
	p := podOf(t, faultyPod)
	everyStep(t, preparedFault, func(w *world) error {
		if err := w.Mount(w.t.Context(), p); err != nil {
			return err
		}
		// The message does not say why, so ask the store.
		if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err != nil {
			return errStopped
		}
		return nil
	}, func(*world) {}, func(w *world) {
		w.expectMounted(p)
		w.expectMounted(p)
	})
}

func TestUpdateStopsAnywhere(t *testing.T) {
	t.Parallel()
	p := podOf(t, faultyPod)
	prepare := func(t *testing.T) *world {
		w := preparedFault(t)
		w.setConfigMap("cm", "k1=old", "gone=old")
		w.mount(p)
		w.setConfigMap("cm", "k1=v1", "k2=v2")
		return w
	}
	everyStep(t, prepare, func(w *world) error { return w.Mount(w.t.Context(), p) }, func(w *world) {
		// What ..data leads to is one of the sets, never something between.
		set := w.vol("configmap/config/..data")
		if got := tree(t, set); got != "gone=old k1=old" && got != "k1=v1 k2=v2" {
			w.t.Errorf("a reader sees %q", got)
		}
	}, func(w *world) { w.expectMounted(p) })
}

func TestUnmountStopsAnywhere(t *testing.T) {
	t.Parallel()
	p := podOf(t, faultyPod)
	remove := func(w *world) error {
		return errors.Join(w.Unmount(w.t.Context(), "uid-1"), w.Remove(w.t.Context(), "uid-1"))
	}
	everyStep(t, func(t *testing.T) *world {
		w := preparedFault(t)
		w.expectMounted(p)
		if err := os.WriteFile(w.vol("empty-dir/work/file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return w
	}, remove, func(*world) {}, func(w *world) {
		for range 2 {
			if err := remove(w); err != nil {
				w.t.Fatal(err)
			}
			w.expectGone()
		}
	})
}

// A volume that was half removed is made again.
func TestMountAfterHalfAnUnmount(t *testing.T) {
	t.Parallel()
	p := podOf(t, faultyPod)
	everyStep(t, func(t *testing.T) *world {
		w := preparedFault(t)
		w.expectMounted(p)
		return w
	}, func(w *world) error { return w.Unmount(w.t.Context(), "uid-1") }, func(*world) {}, func(w *world) { w.expectMounted(p) })
}
