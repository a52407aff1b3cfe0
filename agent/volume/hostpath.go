package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// setUpHostPath checks that what a hostPath volume wants is there, or makes it.
func (d *Dirs) setUpHostPath(v *Volume) error {
	_, err := os.Stat(v.Path)
	missing := errors.Is(err, fs.ErrNotExist)
	switch v.PathType {
	case v1.HostPathUnset:
		return nil
	case v1.HostPathDirectoryOrCreate:
		if missing {
			if err := d.at("mkdir", v.Path); err != nil {
				return err
			}
			return os.MkdirAll(v.Path, 0o755)
		}
		return checkType(v.Path, v1.HostPathDirectory, "directory")
	case v1.HostPathFileOrCreate:
		if missing {
			if err := d.at("create", v.Path); err != nil {
				return err
			}
			f, err := os.OpenFile(v.Path, os.O_CREATE|os.O_RDONLY, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
		return checkType(v.Path, v1.HostPathFile, "file")
	case v1.HostPathDirectory:
		return checkType(v.Path, v.PathType, "directory")
	case v1.HostPathFile:
		return checkType(v.Path, v.PathType, "file")
	case v1.HostPathSocket:
		return checkType(v.Path, v.PathType, "socket file")
	case v1.HostPathCharDev:
		return checkType(v.Path, v.PathType, "character device")
	case v1.HostPathBlockDev:
		return checkType(v.Path, v.PathType, "block device")
	}
	return fmt.Errorf("%s is an invalid volume type", v.PathType)
}

// checkType compares what is at a path of the machine, links followed.
func checkType(path string, want v1.HostPathType, name string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %s is not a %s: %w", path, name, err)
	}
	var is v1.HostPathType
	switch mode := info.Mode(); {
	case mode.IsRegular():
		is = v1.HostPathFile
	case mode.IsDir():
		is = v1.HostPathDirectory
	case mode&fs.ModeSocket != 0:
		is = v1.HostPathSocket
	case mode&fs.ModeCharDevice != 0:
		is = v1.HostPathCharDev
	case mode&fs.ModeDevice != 0:
		is = v1.HostPathBlockDev
	default:
		is = "FIFO"
	}
	if is != want {
		return fmt.Errorf("hostPath type check failed: %s is not a %s, it's a %s", path, name, is)
	}
	return nil
}

// setUpLocal mounts a local volume into the pod's directory.
func (d *Dirs) setUpLocal(v *Volume, dir string) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	source, err := openLocal(v.Path)
	if err != nil {
		return &stepError{err, "NewMounter initialization"}
	}
	defer source.Close()
	// Before it is mounted, so that it is done again if it did not come to that.
	if v.FSGroup != nil && !v.ReadOnly {
		if err := d.setGroup(v, *v.FSGroup); err != nil {
			return err
		}
	}
	if err := d.makeDir(dir, podDirMode, nil); err != nil {
		return err
	}
	if err := d.at("mount", dir); err != nil {
		return err
	}
	return bindMount(source, dir)
}

func openLocal(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("path %q does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("path %q: only directories are supported", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// setGroup gives all that is in a local volume to a group. While other pods have
// the volume mounted their group stays.
func (d *Dirs) setGroup(v *Volume, group int64) error {
	mounts, err := mountsBelow(d.pods)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasSuffix(m, "/"+v.dir()) {
			return nil
		}
	}
	return d.giveAll(v.Path, group, v.KeepOwners)
}

// setUpPublished sees to the group of what a CSI driver has mounted.
func (d *Dirs) setUpPublished(v *Volume, dir string) error {
	if v.FSGroup == nil || v.ReadOnly {
		return nil
	}
	if err := d.giveAll(dir, *v.FSGroup, v.KeepOwners); err != nil {
		return fmt.Errorf("applyFSGroup failed for vol %s: %w", v.Name, err)
	}
	return nil
}

// giveAll gives a directory and all in it to a group; with keep nothing if the
// directory itself has the group already.
func (d *Dirs) giveAll(dir string, group int64, keep bool) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	const want = fs.ModeSetgid | 0o770
	if keep && groupOf(info) == group && info.Mode()&want == want {
		return nil
	}
	// The root comes last: it says that the rest is done.
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || name == "." {
			return err
		}
		info, err := e.Info()
		if err == nil {
			err = d.give(root, name, info, group)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return d.give(root, ".", info, group)
}

func (d *Dirs) give(root *os.Root, name string, info fs.FileInfo, group int64) error {
	if err := d.at("chown", name); err != nil {
		return err
	}
	if err := root.Lchown(name, -1, int(group)); err != nil {
		return err
	}
	mode := info.Mode()
	switch {
	case mode&fs.ModeSymlink != 0:
		return nil
	case mode.IsDir():
		mode |= fs.ModeSetgid | 0o770
	default:
		mode |= 0o660
	}
	return root.Chmod(name, mode)
}
