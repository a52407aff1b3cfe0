package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"

	"nodelet/agent/pod"
)

// UnmountSubPaths is in VolumeStore.
func (d *Dirs) UnmountSubPaths(uid pod.UID) error {
	dir, err := d.podDir(uid)
	if err != nil {
		return err
	}
	if err := d.detachReadOnly(uid); err != nil {
		return err
	}
	return d.unmountAll(filepath.Join(dir, subPathsDir))
}

// TearDown is in VolumeStore.
func (d *Dirs) TearDown(uid pod.UID) error {
	dir, err := d.podDir(uid)
	if err != nil {
		return err
	}
	if err := d.UnmountSubPaths(uid); err != nil {
		return err
	}
	if err := d.unmountAll(filepath.Join(dir, "volumes")); err != nil {
		return err
	}
	for _, part := range []string{readOnlyDir, subPathsDir, "volumes"} {
		if err := d.removeTree(filepath.Join(dir, part)); err != nil {
			return err
		}
	}
	return nil
}

// RemovePod is in PodStore.
func (d *Dirs) RemovePod(uid pod.UID) error {
	dir, err := d.podDir(uid)
	if err != nil {
		return err
	}
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("still mounted: %q", mounts)
	}
	return d.removeTree(dir)
}

// unmountAll unmounts all that is mounted below a directory, what containers
// have left there too.
func (d *Dirs) unmountAll(dir string) error {
	mounts, err := mountInfosBelow(dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if isRemote(m) {
			// This would ask its server, which may be gone.
			continue
		}
		if err := makePrivate(m.Mountpoint); err != nil {
			return err
		}
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := d.at("unmount", m.Mountpoint); err != nil {
			return err
		}
		if isRemote(m) {
			errs = append(errs, unmountRemote(m.Mountpoint))
			continue
		}
		errs = append(errs, unmount(m.Mountpoint))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	left, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("still mounted: %q", left)
	}
	return nil
}

// isRemote reports whether a mount may have to wait for a server.
func isRemote(m *mountinfo.Info) bool { return m.FSType == "nfs" || m.FSType == "nfs4" }

// unmountTimeout is how long a server may take until what it exports is unmounted
// without it.
const unmountTimeout = time.Minute

// unmountRemote unmounts what a server exports; it may be gone.
func unmountRemote(path string) error {
	mounter, ok := mount.New("").(mount.MounterForceUnmounter)
	if !ok {
		return unmount(path)
	}
	return mounter.UnmountWithForce(path, unmountTimeout)
}

// removeTree removes a directory and what is in it. Unlike os.RemoveAll it never
// enters a mount: what is mounted is the data of somebody else, even if the
// mount came after the last look.
func (d *Dirs) removeTree(dir string) error {
	parent, err := os.Open(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	r := &remover{Dirs: d}
	for {
		// What was too deep has come up, and is removed by another look.
		if err := r.remove(parent, filepath.Base(dir), 0); !errors.Is(err, errDeep) {
			return err
		}
	}
}

// maxDepth bounds the directories that are open at a time. A container may have
// made some that are as deep as it had patience.
const maxDepth = 100

// errDeep says that there is more to remove.
var errDeep = errors.New("directories are too deep")

type remover struct {
	*Dirs
	// top is the directory that all is removed from.
	top *os.File
	// moved counts what was too deep.
	moved int
}

func (r *remover) remove(parent *os.File, name string, depth int) error {
	path := filepath.Join(parent.Name(), name)
	if depth < 3 {
		if err := r.at("remove", path); err != nil {
			return err
		}
	}
	err := unix.Unlinkat(int(parent.Fd()), name, 0)
	switch {
	case err == nil || errors.Is(err, unix.ENOENT):
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	dir, err := openUnmounted(parent, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	if depth == 0 {
		r.top = dir
	}
	if depth == maxDepth {
		return r.moveUp(parent, name)
	}
	if err := r.empty(dir, depth); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(parent.Fd()), name, unix.AT_REMOVEDIR); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "remove", Path: path, Err: err}
	}
	return nil
}

// moveUp takes a directory that is too deep to the top.
func (r *remover) moveUp(parent *os.File, name string) error {
	for {
		r.moved++
		err := unix.Renameat(int(parent.Fd()), name, int(r.top.Fd()), "..deep-"+strconv.Itoa(r.moved))
		switch {
		case err == nil:
			return errDeep
		case !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOTEMPTY):
			return &fs.PathError{Op: "move up", Path: filepath.Join(parent.Name(), name), Err: err}
		}
	}
}

// empty removes what is in a directory.
func (r *remover) empty(dir *os.File, depth int) error {
	for {
		names, err := dir.Readdirnames(1000)
		if err != nil && err != io.EOF {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		var errs []error
		for _, name := range names {
			errs = append(errs, r.remove(dir, name, depth+1))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		// What was removed may have made the reading skip something.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// errMounted says that something is mounted where nothing should be.
var errMounted = errors.New("still mounted")

// openUnmounted opens a directory on which nothing is mounted.
func openUnmounted(parent *os.File, name string) (*os.File, error) {
	path := filepath.Join(parent.Name(), name)
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat2(int(parent.Fd()), name, &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_NO_XDEV})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		// Kernels before 5.6, and some sandboxes.
		fd, err = openSameDevice(parent, name, flags)
	}
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("%w: %q", errMounted, path)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openSameDevice opens a directory unless it is on another device than its
// parent.
func openSameDevice(parent *os.File, name string, flags int) (int, error) {
	var outer, inner unix.Stat_t
	if err := unix.Fstat(int(parent.Fd()), &outer); err != nil {
		return -1, err
	}
	fd, err := unix.Openat(int(parent.Fd()), name, flags, 0)
	if err != nil {
		return -1, err
	}
	err = unix.Fstat(fd, &inner)
	if err == nil && inner.Dev != outer.Dev {
		err = unix.EXDEV
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
