package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// isMountPoint reports whether something is mounted on path; what does not exist
// is none.
func isMountPoint(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// mountTmpfs mounts a tmpfs, one that is never swapped to a disk where the
// kernel has such. The system call, and not mount(8), because a node may have no
// such program.
func mountTmpfs(dir, options string) error {
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, options+",noswap")
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, options)
	}
	if err != nil {
		return &fs.PathError{Op: "mount tmpfs", Path: dir, Err: err}
	}
	return nil
}

// mountHugePages mounts a file system of huge pages.
func mountHugePages(dir, options string) error {
	if err := unix.Mount("nodev", dir, "hugetlbfs", 0, options); err != nil {
		return &fs.PathError{Op: "mount hugetlbfs", Path: dir, Err: err}
	}
	return nil
}

// groupOf is the group that has a file.
func groupOf(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return int64(s.Gid)
	}
	return -1
}

// bindMount mounts what is open on target.
func bindMount(source *os.File, target string) error {
	err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", source.Fd()), target, "", unix.MS_BIND, "")
	if err != nil {
		return &fs.PathError{Op: "bind mount", Path: target, Err: err}
	}
	return nil
}

func unmount(path string) error {
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "unmount", Path: path, Err: err}
	}
	return nil
}

// makePrivate keeps what happens to the mounts below a mount from also happening
// to those below its peers. Unmounting below a subpath would else unmount below
// the hostPath as well that it was bound from.
func makePrivate(path string) error {
	if err := unix.Mount("", path, "", unix.MS_PRIVATE, ""); err != nil {
		return &fs.PathError{Op: "make private", Path: path, Err: err}
	}
	return nil
}

// detach unmounts what may be in use, with all that is mounted below it.
func detach(path string) error {
	if err := makePrivate(path); err != nil {
		return err
	}
	if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return &fs.PathError{Op: "detach", Path: path, Err: err}
	}
	return nil
}

// mountInfosBelow returns what is mounted on a directory and below it, the newest
// mount last.
func mountInfosBelow(dir string) ([]*mountinfo.Info, error) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return mountinfo.GetMounts(mountinfo.PrefixFilter(real))
}

// mountsBelow returns where something is mounted on a directory and below it, the
// newest mount first.
func mountsBelow(dir string) ([]string, error) {
	mounts, err := mountInfosBelow(dir)
	if err != nil {
		return nil, err
	}
	var points []string
	for _, m := range slices.Backward(mounts) {
		points = append(points, m.Mountpoint)
	}
	return points, nil
}

// openBelow opens what is at a path below base for being bound, whatever it is.
// It follows no link, so that nobody can lead it away.
func openBelow(base, rel string) (*os.File, error) {
	f, err := openPath(unix.AT_FDCWD, base, base)
	if err != nil || rel == "." {
		return f, err
	}
	for name := range strings.SplitSeq(rel, "/") {
		next, err := openPath(int(f.Fd()), name, filepath.Join(f.Name(), name))
		f.Close()
		if err != nil {
			return nil, err
		}
		f = next
	}
	return f, nil
}

func openPath(at int, name, path string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// makeBelow makes directories below one that is open, with the mode of the
// volume, and returns the last one, open. Links are not followed.
func (d *Dirs) makeBelow(base string, from *os.File, names string) (*os.File, error) {
	info, err := os.Stat(base)
	if err != nil {
		return nil, err
	}
	mode := unixPermissions(info.Mode())
	at := from
	for name := range strings.SplitSeq(names, "/") {
		next, err := d.makeIn(at, name, mode)
		if at != from {
			at.Close()
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// makeIn makes one directory. If it came to be meanwhile, it is not touched.
func (d *Dirs) makeIn(parent *os.File, name string, mode uint32) (*os.File, error) {
	path := filepath.Join(parent.Name(), name)
	if err := d.at("mkdir", path); err != nil {
		return nil, err
	}
	err := unix.Mkdirat(int(parent.Fd()), name, mode)
	made := err == nil
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mkdir", Path: path, Err: err}
	}
	f, err := openPath(int(parent.Fd()), name, path)
	if err != nil || !made {
		return f, err
	}
	// The umask may have taken something away. Not by name, which may lead
	// elsewhere by now.
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), mode)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// unixPermissions has the mode's bits as the system calls have them.
func unixPermissions(mode fs.FileMode) uint32 {
	bits := uint32(mode.Perm())
	if mode&fs.ModeSetgid != 0 {
		bits |= unix.S_ISGID
	}
	return bits
}
