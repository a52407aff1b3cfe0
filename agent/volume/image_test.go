//go:build linux

package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const imagePod = `
containers:
- name: c
  volumeMounts:
  - {name: img, mountPath: /img}
  - {name: img, mountPath: /sub, subPath: deep/er}
volumes: [{name: img, image: {reference: example.com/content}}]
`

// imageLayers makes directories as an engine has them: each over those after it.
func imageLayers(t *testing.T, files ...string) (layers []string) {
	t.Helper()
	// With characters that mean something to the kernel.
	root := filepath.Join(t.TempDir(), `a,b:c\d`)
	for i, file := range files {
		layer := filepath.Join(root, fmt.Sprint(i))
		must(t, os.MkdirAll(filepath.Join(layer, "deep/er"), 0o755))
		must(t, os.WriteFile(filepath.Join(layer, "deep/er", file), []byte("layer "+fmt.Sprint(i)), 0o644))
		must(t, os.WriteFile(filepath.Join(layer, "deep/top"), []byte(fmt.Sprint(i)), 0o644))
		layers = append(layers, layer)
	}
	return layers
}

// withImage has a world's agent find an image in these layers.
func (w *world) withImage(layers []string, err error) {
	w.Layers = func(_ context.Context, image string) ([]string, error) {
		if image != "example.com/content" {
			w.t.Errorf("asked for %q", image)
		}
		return layers, err
	}
}

// A pod sees what the image has, of all of its layers, and can do nothing to it.
func TestImage(t *testing.T) {
	for _, files := range [][]string{{"only"}, {"a", "b", "c"}} {
		w := newWorld(t)
		layers := imageLayers(t, files...)
		w.withImage(layers, nil)
		p := podOf(t, imagePod)
		w.mount(p)
		if _, err := os.Stat(w.vol("image/img")); !os.IsNotExist(err) {
			t.Errorf("mounted before the image was pulled: %v", err)
		}
		paths := w.paths(p)
		if again := w.paths(p); strings.Join(again, " ") != strings.Join(paths, " ") {
			t.Errorf("paths %q, then %q", paths, again)
		}
		var want string
		for i, file := range files {
			want += fmt.Sprintf("deep/er/%s=layer %d ", file, i)
		}
		want += "deep/top=0"
		if got := tree(t, paths[0]); got != want {
			t.Errorf("the image has %q, want %q", got, want)
		}
		if data, err := os.ReadFile(filepath.Join(paths[1], files[0])); err != nil || string(data) != "layer 0" {
			t.Errorf("the subPath: %q, %v", data, err)
		}
		if mayWrite(t, paths[0]) || mayWrite(t, paths[1]) {
			t.Error("the image can be written to")
		}
		// To make it read-only once more could make it executable.
		if mounts, err := w.Mounts(p, &p.Spec.Containers[0], nil); err != nil || mounts[0].ReadOnly {
			t.Errorf("mounts %+v, %v", mounts, err)
		}
		var s unix.Statfs_t
		must(t, unix.Statfs(paths[0], &s))
		if s.Flags&unix.ST_NOEXEC == 0 {
			t.Error("its programs can be run")
		}
		// The next agent leaves it as it is.
		w.restart()
		w.withImage(nil, errors.New("not asked"))
		must(t, w.Unmount(t.Context(), "uid-1"))
		must(t, w.Remove(t.Context(), "uid-1"))
		w.expectGone()
		for i, layer := range layers {
			if data, err := os.ReadFile(filepath.Join(layer, "deep/er", files[i])); err != nil || string(data) != "layer "+fmt.Sprint(i) {
				t.Errorf("a layer has %q, %v", data, err)
			}
		}
	}
}

// An image that is not to be had keeps the container, not the pod.
func TestImageThatCannotBeMounted(t *testing.T) {
	w := newWorld(t)
	p := podOf(t, imagePod)
	for _, test := range []struct {
		layers []string
		err    error
		want   string
	}{
		{nil, errors.New("no such image"), `MountVolume.SetUp failed for volume "img" : no such image`},
		{nil, nil, `MountVolume.SetUp failed for volume "img" : the engine does not tell where it has the image; image volumes need its storage driver overlay2`},
		{[]string{"/nowhere"}, nil, `MountVolume.SetUp failed for volume "img" : open /nowhere: no such file or directory`},
	} {
		w.withImage(test.layers, test.err)
		w.mount(p)
		if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err == nil || err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
	w.withImage(imageLayers(t, "f"), nil)
	if paths := w.paths(p); mayWrite(t, paths[0]) {
		t.Error("the image can be written to")
	}
}

// A subPath that an image does not have is not made.
func TestImageWithoutSubPath(t *testing.T) {
	w := newWorld(t)
	w.withImage(imageLayers(t, "f"), nil)
	p := podOf(t, strings.ReplaceAll(imagePod, "deep/er", "absent"))
	w.mount(p)
	if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err == nil || !strings.Contains(err.Error(), `failed to prepare subPath for volumeMount "img" of container "c"`) {
		t.Errorf("error %v", err)
	}
}

func TestImageStopsAnywhere(t *testing.T) {
	t.Parallel()
	layers := imageLayers(t, "a", "b")
	p := podOf(t, imagePod)
	mounts := func(w *world) error {
		w.withImage(layers, nil)
		if err := w.Mount(w.t.Context(), p); err != nil {
			return err
		}
		if _, err := w.Mounts(p, &p.Spec.Containers[0], nil); err != nil {
			return errStopped
		}
		return nil
	}
	expect := func(w *world) {
		w.t.Helper()
		must(w.t, mounts(w))
		if got := tree(w.t, w.vol("image/img")); got != "deep/er/a=layer 0 deep/er/b=layer 1 deep/top=0" {
			w.t.Errorf("the image has %q", got)
		}
	}
	everyStep(t, newWorld, mounts, func(*world) {}, func(w *world) { expect(w); expect(w) })
	remove := func(w *world) error {
		return errors.Join(w.Unmount(w.t.Context(), "uid-1"), w.Remove(w.t.Context(), "uid-1"))
	}
	everyStep(t, func(t *testing.T) *world {
		w := newWorld(t)
		expect(w)
		return w
	}, remove, func(*world) {}, func(w *world) { must(w.t, remove(w)); w.expectGone() })
	if got := tree(t, layers[0]); got != "deep/er/a=layer 0 deep/top=0" {
		t.Errorf("a layer has %q", got)
	}
}
