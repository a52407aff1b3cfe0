package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// Modes of what the agent makes.
const (
	podDirMode = 0o750
	// emptyDirMode lets every user of a pod write.
	emptyDirMode = 0o777
	// filesDirMode is for volumes whose files the agent writes.
	filesDirMode = 0o755
)

// Dirs is the Store of a machine: directories and mounts below a root, in the
// kubelet's layout.
//
//	pods/<uid>/volumes/kubernetes.io~<kind>/<volume>
//	pods/<uid>/volume-subpaths/<volume>/<container>/<index of the mount>
//	pods/<uid>/volume-readonly/<volume>/<container>/<index of the mount>
//
// Containers may run as any user and may change all that they can write to while
// the agent works. What they can write to is an emptyDir or a hostPath and below
// it; the agent goes there only in HostPath and when it removes.
type Dirs struct {
	// pods is the directory with the pods' directories.
	pods string
	log  *slog.Logger
	// onDisk warns once that there is no memory for what should not be on a disk.
	onDisk sync.Once
	// step, if not nil, is called before each change of the file system. An
	// error ends the call. It is for tests.
	step func(what, path string) error
}

// NewDirs returns a Store below root, an absolute path, which is made when it is
// needed.
func NewDirs(root string, log *slog.Logger) *Dirs {
	return &Dirs{pods: filepath.Join(root, "pods"), log: log}
}

func (d *Dirs) at(what, path string) error {
	if d.step == nil {
		return nil
	}
	return d.step(what, path)
}

// podDir is a pod's directory. A UID that is not the name of one is an error:
// static pods' authors choose theirs.
func (d *Dirs) podDir(uid pod.UID) (string, error) {
	if !isName(string(uid)) {
		return "", fmt.Errorf("pod UID %q cannot be the name of a directory", uid)
	}
	return filepath.Join(d.pods, string(uid)), nil
}

// volumeDir is a volume's directory.
func (d *Dirs) volumeDir(v *Volume) (string, error) {
	dir, err := d.podDir(v.Pod)
	if err != nil {
		return "", err
	}
	// The names before are the agent's own.
	if !isName(v.Name) || strings.HasPrefix(v.Name, newPrefix) {
		return "", fmt.Errorf("volume name %q cannot be the name of a directory", v.Name)
	}
	return filepath.Join(dir, v.dir()), nil
}

// MakePod is in PodStore.
func (d *Dirs) MakePod(uid pod.UID) error {
	dir, err := d.podDir(uid)
	if err != nil {
		return err
	}
	return d.makeDirs(dir)
}

// makeDirs makes a directory for the agent and those above it.
func (d *Dirs) makeDirs(dir string) error {
	if err := d.at("mkdir", dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, podDirMode)
}

// WriteFile is in PodStore. The file keeps its inode, for containers have it
// mounted.
func (d *Dirs) WriteFile(uid pod.UID, name string, content []byte) (string, error) {
	dir, err := d.podDir(uid)
	if err != nil {
		return "", err
	}
	if name, err = cleanPath(name); err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	if err := d.makeDirs(filepath.Dir(file)); err != nil {
		return "", err
	}
	if old, err := os.ReadFile(file); err == nil && content != nil && bytes.Equal(old, content) {
		return file, nil
	}
	if err := d.at("write", file); err != nil {
		return "", err
	}
	mode := fs.FileMode(0o644)
	if content == nil {
		mode = 0o666
	}
	if err := os.WriteFile(file, content, mode); err != nil {
		return "", err
	}
	// The umask may have taken something away.
	return file, os.Chmod(file, mode)
}

// Pods is in PodStore.
func (d *Dirs) Pods() ([]pod.UID, error) {
	entries, err := os.ReadDir(d.pods)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var uids []pod.UID
	for _, e := range entries {
		if e.IsDir() {
			uids = append(uids, pod.UID(e.Name()))
		}
	}
	return uids, nil
}

// SetUp is in VolumeStore.
func (d *Dirs) SetUp(v *Volume) error {
	dir, err := d.volumeDir(v)
	if err != nil {
		return err
	}
	switch v.Kind {
	case HostPath:
		return d.setUpHostPath(v)
	case EmptyDir:
		return d.setUpEmptyDir(v, dir)
	case Local:
		return d.setUpLocal(v, dir)
	case NFS:
		return d.setUpNFS(v, dir)
	case CSIDriver:
		return d.setUpPublished(v, dir)
	case Image:
		return d.setUpImage(v, dir)
	case Other:
		return fmt.Errorf("unsupported volume type %q", v.Type)
	case ConfigMap:
		err = d.makeDir(dir, filesDirMode, v.FSGroup)
	default:
		// Not on a disk, from which secrets may be read later.
		err = d.setUpMemory(v, dir)
	}
	if err != nil {
		return err
	}
	return d.writeFiles(v, dir)
}

func (d *Dirs) setUpEmptyDir(v *Volume, dir string) error {
	switch {
	case v.Medium == v1.StorageMediumDefault:
		return d.makeDir(dir, emptyDirMode, v.FSGroup)
	case v.Medium == v1.StorageMediumMemory || v.PageSize > 0:
		return d.mountMemory(v, dir, emptyDirMode)
	}
	return fmt.Errorf("unknown storage medium %q", v.Medium)
}

// setUpMemory makes the directory of files that belong in memory; if nothing can
// be mounted, on disk.
func (d *Dirs) setUpMemory(v *Volume, dir string) error {
	// Where it began on disk it stays: running containers look there.
	if _, err := os.Readlink(filepath.Join(dir, dataLink)); err == nil {
		return nil
	}
	err := d.mountMemory(v, dir, filesDirMode)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	d.onDisk.Do(func() {
		d.log.Warn("Not permitted to mount a tmpfs: secrets and tokens are written to disk", "err", err)
	})
	return d.makeDir(dir, filesDirMode, v.FSGroup)
}

// mountMemory mounts a tmpfs on the directory, unless it has one.
func (d *Dirs) mountMemory(v *Volume, dir string, mode fs.FileMode) error {
	mounted, err := isMountPoint(dir)
	if err != nil || mounted {
		return err
	}
	if err := d.makeDir(dir, mode, nil); err != nil {
		return err
	}
	if err := d.at("mount", dir); err != nil {
		return err
	}
	// The options give the mount its mode and its group at once with its
	// existence.
	options := fmt.Sprintf("mode=%#o", unixMode(mode, v.FSGroup))
	if v.FSGroup != nil {
		options += fmt.Sprintf(",gid=%d", *v.FSGroup)
	}
	if v.PageSize > 0 {
		err := mountHugePages(dir, options+fmt.Sprintf(",pagesize=%d", v.PageSize))
		if err == nil && v.FSGroup != nil {
			// The option cannot say this bit here.
			err = os.Chmod(dir, fs.ModeSetgid|mode|0o070)
		}
		return err
	}
	if v.Size > 0 {
		options += fmt.Sprintf(",size=%d", v.Size)
	}
	return mountTmpfs(dir, options)
}

// unixMode is a directory's mode. With a group of its own, all that is made in
// it gets that group.
func unixMode(mode fs.FileMode, group *int64) uint32 {
	if group == nil {
		return uint32(mode)
	}
	return uint32(mode) | 0o2070
}

// newPrefix marks directories that are being made.
const newPrefix = "..new-"

// makeDir makes a directory for a pod, with its mode and its group at once. One
// that is there already belongs to the pod and is not touched.
func (d *Dirs) makeDir(dir string, mode fs.FileMode, group *int64) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent, name := filepath.Split(dir)
	if err := d.makeDirs(parent); err != nil {
		return err
	}
	made := parent + newPrefix + name
	if err := d.at("mkdir", made); err != nil {
		return err
	}
	if err := os.Mkdir(made, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if group != nil {
		if err := d.at("chown", made); err != nil {
			return err
		}
		if err := os.Chown(made, -1, int(*group)); err != nil {
			return err
		}
		mode |= fs.ModeSetgid | 0o070
	}
	if err := d.at("chmod", made); err != nil {
		return err
	}
	if err := os.Chmod(made, mode); err != nil {
		return err
	}
	if err := d.at("rename", dir); err != nil {
		return err
	}
	return os.Rename(made, dir)
}
