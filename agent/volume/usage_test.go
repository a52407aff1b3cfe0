//go:build linux

package volume

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// usage is what the emptyDir e is measured to take, less what it takes empty.
func (w *world) usage(empty int64) int64 {
	w.t.Helper()
	used, err := w.Usage(w.t.Context(), "uid-1", "e")
	must(w.t, err)
	return used - empty
}

// What is in an emptyDir counts once, and nothing that is elsewhere does.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	if used := w.usage(0); used != 0 {
		t.Errorf("%d bytes before it exists", used)
	}
	w.mount(podOf(t, emptyDirPod))
	e := w.vol("empty-dir/e")
	empty := w.usage(0)
	const size = 1 << 20
	data := bytes.Repeat([]byte("x"), size)
	must(t, os.MkdirAll(filepath.Join(e, "a/b"), 0o755))
	must(t, os.WriteFile(filepath.Join(e, "a/b/file"), data, 0o644))
	must(t, os.Link(filepath.Join(e, "a/b/file"), filepath.Join(e, "again")))
	sparse, err := os.Create(filepath.Join(e, "sparse"))
	must(t, err)
	must(t, sparse.Truncate(1<<40))
	must(t, sparse.Close())
	// Led away, by a link and by a mount.
	outer := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outer, "big"), data, 0o644))
	must(t, os.Symlink(outer, filepath.Join(e, "link")))
	must(t, os.Symlink(filepath.Join(outer, "big"), filepath.Join(e, "link-to-file")))
	must(t, os.Mkdir(filepath.Join(e, "mnt"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(e, "mnt"), "tmpfs", 0, ""))
	must(t, os.WriteFile(filepath.Join(e, "mnt/big"), data, 0o644))
	must(t, os.WriteFile(filepath.Join(e, "bound"), nil, 0o644))
	must(t, unix.Mount(filepath.Join(e, "mnt/big"), filepath.Join(e, "bound"), "", unix.MS_BIND, ""))
	must(t, os.Mkdir(filepath.Join(e, "bind"), 0o755))
	must(t, unix.Mount(outer, filepath.Join(e, "bind"), "", unix.MS_BIND, ""))
	// Directories take something too, but little.
	if used := w.usage(empty); used < size || used > size+64<<10 {
		t.Errorf("%d bytes, want a little more than %d", used, size)
	}
	must(t, os.Remove(filepath.Join(e, "a/b/file")))
	if used := w.usage(empty); used < size {
		t.Errorf("%d bytes while the file has a name, want at least %d", used, size)
	}
	must(t, os.Remove(filepath.Join(e, "again")))
	if used := w.usage(empty); used > 64<<10 {
		t.Errorf("%d bytes when the file is gone", used)
	}
}

// What can only be measured in part counts as far as it could be.
func TestUsageInPart(t *testing.T) {
	w := newWorld(t)
	w.mount(podOf(t, emptyDirPod))
	e := w.vol("empty-dir/e")
	deep, err := unix.Open(e, unix.O_PATH, 0)
	must(t, err)
	for range maxUsageDepth + 2 {
		must(t, unix.Mkdirat(deep, "d", 0o755))
		next, err := unix.Openat(deep, "d", unix.O_PATH, 0)
		must(t, err)
		must(t, unix.Close(deep))
		deep = next
	}
	must(t, unix.Close(deep))
	must(t, os.WriteFile(filepath.Join(e, "file"), bytes.Repeat([]byte("x"), 1<<20), 0o644))
	used, err := w.Usage(t.Context(), "uid-1", "e")
	if err == nil || !strings.Contains(err.Error(), `measuring volume "e" of pod "uid-1": more than 1000 directories`) || used < 1<<20 {
		t.Errorf("%d bytes, error %v", used, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Usage(ctx, "uid-1", "e"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
