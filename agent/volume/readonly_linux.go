package volume

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"nodelet/agent/pod"
)

// RecursiveReadOnly is in Store. The kernel can do it from Linux 5.12 on.
func (d *Dirs) RecursiveReadOnly() bool {
	err := unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return errors.Is(err, unix.EBADF)
}

// readOnly mounts what is at path, and all that is mounted below it, read-only on
// target, which is in base. What was mounted there for an incarnation of a container
// before goes: there may be other mounts by now. Those that come later do not come to
// be there.
func (d *Dirs) readOnly(path, base, target string) error {
	if err := d.mountReadOnlyBase(base); err != nil {
		return err
	}
	if err := d.detachIfMounted(target); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	tree, err := copyMounts(path, unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer tree.Close()
	// Private, so that neither side sees what is mounted and unmounted on the other.
	err = unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE,
		&unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY, Propagation: unix.MS_PRIVATE})
	if err != nil {
		return &fs.PathError{Op: "make read-only", Path: path, Err: err}
	}
	if err := d.makeTarget(target, info.IsDir()); err != nil {
		return err
	}
	return d.attach(tree, target)
}

// mountReadOnlyBase mounts a directory on itself so that nobody copies the mounts in
// it along with what is above. If a pod has all of the machine mounted, its copy would
// else have those of the pods before in it, and the next one twice as many.
func (d *Dirs) mountReadOnlyBase(base string) error {
	mounted, err := isMountPoint(base)
	if err != nil {
		return err
	}
	if !mounted {
		if err := d.makeDirs(base); err != nil {
			return err
		}
		tree, err := copyMounts(base, 0)
		if err != nil {
			return err
		}
		defer tree.Close()
		if err := d.attach(tree, base); err != nil {
			return err
		}
	}
	if err := d.at("make unbindable", base); err != nil {
		return err
	}
	if err := unix.Mount("", base, "", unix.MS_UNBINDABLE, ""); err != nil {
		return &fs.PathError{Op: "make unbindable", Path: base, Err: err}
	}
	return nil
}

// copyMounts makes a copy of the mount at path, with AT_RECURSIVE of all below too,
// that is mounted nowhere.
func copyMounts(path string, flags uint) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if err != nil {
		return nil, &fs.PathError{Op: "copy mounts", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// attach mounts a copy.
func (d *Dirs) attach(tree *os.File, target string) error {
	if err := d.at("mount", target); err != nil {
		return err
	}
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &fs.PathError{Op: "mount", Path: target, Err: err}
	}
	return nil
}

func (d *Dirs) detachIfMounted(target string) error {
	mounted, err := isMountPoint(target)
	if err != nil || !mounted {
		return err
	}
	if err := d.at("unmount", target); err != nil {
		return err
	}
	return detach(target)
}

// detachReadOnly takes away all that readOnly has mounted for a pod. Nothing uses it
// any more. In one go, for these are copies: no server is asked of whose file system
// there is one, and that may be gone.
func (d *Dirs) detachReadOnly(uid pod.UID) error {
	dir, err := d.podDir(uid)
	if err != nil {
		return err
	}
	base := filepath.Join(dir, readOnlyDir)
	if err := d.detachIfMounted(base); err != nil {
		return err
	}
	return d.unmountAll(base)
}
