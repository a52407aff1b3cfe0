package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// subPathsDir is where a pod's subpaths are mounted, readOnlyDir where what is
// read-only in all its depth is.
const (
	subPathsDir = "volume-subpaths"
	readOnlyDir = "volume-readonly"
)

// HostPath is in VolumeStore.
func (d *Dirs) HostPath(v *Volume, s SubPath) (string, error) {
	at, err := d.subPath(v, s)
	if err != nil || !s.RecursiveReadOnly {
		return at, err
	}
	if v.Kind == HostPath && v.PathType == v1.HostPathUnset {
		// The runtime would make it, but does not get to see it.
		if err := d.makeHostPath(at); err != nil {
			return "", err
		}
	}
	base, target, err := d.mountTarget(v, s, readOnlyDir)
	if err != nil {
		return "", err
	}
	return target, d.readOnly(at, base, target)
}

// makeHostPath makes a directory of the machine unless there is something.
func (d *Dirs) makeHostPath(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := d.at("mkdir", path); err != nil {
		return err
	}
	return os.MkdirAll(path, 0o755)
}

// mountTarget is where a container's mount of a volume is prepared, in base, a
// directory of the pod's.
func (d *Dirs) mountTarget(v *Volume, s SubPath, dir string) (base, target string, err error) {
	if !isName(s.Container) {
		return "", "", fmt.Errorf("container name %q cannot be the name of a directory", s.Container)
	}
	if !isName(v.Name) {
		return "", "", fmt.Errorf("volume name %q cannot be the name of a directory", v.Name)
	}
	base, err = d.podDir(v.Pod)
	base = filepath.Join(base, dir)
	return base, filepath.Join(base, v.Name, s.Container, strconv.Itoa(s.Index)), err
}

// subPath is where the path of a container's mount is. A subpath cannot be bound by its name: containers
// that write to the volume could put a link in its place before the runtime
// looks. So the agent opens it, checks where it is, and binds what it has opened
// to a place that no container can write to.
func (d *Dirs) subPath(v *Volume, s SubPath) (string, error) {
	if v.Kind == Other {
		return "", fmt.Errorf("unsupported volume type %q", v.Type)
	}
	base := v.Path
	if v.Kind != HostPath {
		var err error
		if base, err = d.volumeDir(v); err != nil {
			return "", err
		}
	}
	if path.Clean(s.Path) == "." {
		return base, nil
	}
	_, target, err := d.mountTarget(v, s, subPathsDir)
	if err != nil {
		return "", err
	}
	if base, err = filepath.EvalSymlinks(base); err != nil {
		return "", err
	}
	rel, missing, err := resolve(base, s.Path)
	if err != nil {
		return "", err
	}
	source, err := openBelow(base, rel)
	if err != nil {
		return "", err
	}
	defer func() { source.Close() }()
	if missing != "" {
		if v.Kind.hasFiles() || v.ReadOnly {
			return "", &fs.PathError{Op: "subPath", Path: s.Path, Err: fs.ErrNotExist}
		}
		made, err := d.makeBelow(base, source, missing)
		if err != nil {
			return "", err
		}
		source.Close()
		source = made
	}
	return target, d.bind(source, target)
}

// resolve follows the links in a path below base, which has none itself, and
// returns where that leads, relative to base: rel as far as it exists, and
// missing, the rest. Whoever writes to the volume may change it meanwhile, so
// this only says where to look.
func resolve(base, sub string) (rel, missing string, err error) {
	for exists := path.Clean(sub); ; exists = path.Dir(exists) {
		real, err := filepath.EvalSymlinks(filepath.Join(base, exists))
		if errors.Is(err, fs.ErrNotExist) && exists != "." {
			// A link to nothing is not missing: made in its place, the directory
			// would be where the link leads.
			if _, err := os.Lstat(filepath.Join(base, exists)); err == nil {
				return "", "", fmt.Errorf("link %q leads to nothing", exists)
			}
			continue
		}
		if err != nil {
			return "", "", err
		}
		rel, err := filepath.Rel(base, real)
		if err != nil || !filepath.IsLocal(rel) {
			return "", "", fmt.Errorf("path %q leads out of its volume", sub)
		}
		return rel, strings.TrimPrefix(strings.TrimPrefix(path.Clean(sub), exists), "/"), nil
	}
}

// bind mounts what is open on target. Where it is mounted already nothing is
// done; what else is there a container may still use, and keeps.
func (d *Dirs) bind(source *os.File, target string) error {
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s has become a link", source.Name())
	}
	mounted, err := isMountPoint(target)
	if err != nil {
		return err
	}
	if mounted {
		if is, err := os.Lstat(target); err == nil && os.SameFile(is, info) {
			return nil
		}
		if err := d.at("unmount", target); err != nil {
			return err
		}
		if err := detach(target); err != nil {
			return err
		}
	}
	if err := d.makeTarget(target, info.IsDir()); err != nil {
		return err
	}
	if err := d.at("mount", target); err != nil {
		return err
	}
	return bindMount(source, target)
}

// makeTarget makes the directory or the file that something is mounted on.
func (d *Dirs) makeTarget(target string, dir bool) error {
	if err := d.makeDirs(filepath.Dir(target)); err != nil {
		return err
	}
	if is, err := os.Lstat(target); err == nil {
		if is.IsDir() == dir {
			return nil
		}
		if err := d.at("remove", target); err != nil {
			return err
		}
		// Not RemoveAll: nothing is in it.
		if err := os.Remove(target); err != nil {
			return err
		}
	}
	if err := d.at("create", target); err != nil {
		return err
	}
	if dir {
		return os.Mkdir(target, podDirMode)
	}
	return os.WriteFile(target, nil, 0o640)
}
