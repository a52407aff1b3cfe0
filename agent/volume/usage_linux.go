package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// maxUsageDepth bounds the directories that are open at a time.
const maxUsageDepth = 1000

// blockSize is the unit of a file's blocks, whatever its file system's own is.
const blockSize = 512

// Usage is in VolumeStore. Containers may move and link what they like meanwhile:
// nothing is opened by a path, and no link is followed.
func (d *Dirs) Usage(ctx context.Context, v *Volume) (int64, error) {
	path, err := d.volumeDir(v)
	if err != nil {
		return 0, err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	dir := os.NewFile(uintptr(fd), path)
	defer dir.Close()
	var top unix.Stat_t
	if err := unix.Fstat(fd, &top); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	m := &meter{ctx: ctx, device: top.Dev, bytes: top.Blocks * blockSize, linked: map[uint64]bool{}}
	err = m.measure(dir, 0)
	return m.bytes, err
}

// meter adds up what files take of a device.
type meter struct {
	ctx    context.Context
	device uint64
	bytes  int64
	// linked are the files of several names that were counted.
	linked map[uint64]bool
}

func (m *meter) measure(dir *os.File, depth int) error {
	if depth > maxUsageDepth {
		return fmt.Errorf("more than %d directories in each other", maxUsageDepth)
	}
	var errs []error
	for {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			errs = append(errs, m.add(dir, name, depth))
		}
		if err == io.EOF || errors.Is(err, fs.ErrNotExist) {
			return errors.Join(errs...)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
}

// add counts what has a name in a directory, and all below it. What is gone by now
// takes nothing, and what is mounted there is not the volume's.
func (m *meter) add(dir *os.File, name string, depth int) error {
	var s unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &s, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	isDir := s.Mode&unix.S_IFMT == unix.S_IFDIR
	if s.Dev != m.device || !isDir && m.linked[s.Ino] {
		return nil
	}
	if !isDir && s.Nlink > 1 {
		m.linked[s.Ino] = true
	}
	m.bytes += s.Blocks * blockSize
	if !isDir {
		return nil
	}
	below, err := openUnmounted(dir, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, errMounted):
		return nil
	case err != nil:
		return err
	}
	defer below.Close()
	return m.measure(below, depth+1)
}
