package simcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dataDir is the directory with the cluster's data, held by this process alone.
type dataDir struct {
	path string
	// keep leaves the directory in place when it is closed.
	keep bool
	lock *os.File
}

const (
	sharedMemory = "/dev/shm"
	// temporaryPrefix begins the names of temporary directories; the process's
	// ID follows, for whoever finds one that a killed process has left.
	temporaryPrefix = "nodelet-sim-"

	tmpfsMagic  = 0x01021994
	accessWrite = 2
	// maxSocketPath is how long the path of a unix socket may be, less what
	// goes behind the data directory.
	maxSocketPath = 107 - len("/etcd.sock")
)

// openDataDir makes and locks the data directory. The empty path means a
// temporary one, in memory if the machine has memory-backed storage.
func openDataDir(path string) (*dataDir, error) {
	d := &dataDir{path: path, keep: path != ""}
	if err := d.open(); err != nil {
		return nil, &OptionError{"Dir", fmt.Errorf("data directory %s: %w", d.path, err)}
	}
	return d, nil
}

func (d *dataDir) open() (err error) {
	if d.keep {
		if d.path, err = filepath.Abs(d.path); err != nil {
			return err
		}
		if err := os.MkdirAll(d.path, 0o700); err != nil {
			return cause(err)
		}
	} else {
		if d.path, err = TempDir(); err != nil {
			return err
		}
	}
	if len(d.path) > maxSocketPath {
		return errors.Join(fmt.Errorf("path too long: at most %d bytes, for the sake of a unix socket in it", maxSocketPath), d.close())
	}
	if syscall.Access(d.path, accessWrite) != nil {
		return errors.New("not writable")
	}
	// The directory itself is what is locked: nothing to clean up, and the
	// lock ends with the process however that ends.
	if d.lock, err = os.Open(d.path); err != nil {
		return cause(err)
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		d.lock.Close()
		return errors.New("in use by another cluster")
	}
	return nil
}

// TempDir makes a temporary directory, in memory if the machine has
// memory-backed storage. The caller removes it.
func TempDir() (string, error) {
	parent := os.TempDir()
	if memoryBacked(sharedMemory) {
		parent = sharedMemory
	}
	path, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", temporaryPrefix, os.Getpid()))
	if err != nil {
		return parent, cause(err)
	}
	return path, nil
}

// close gives the directory up, and removes it unless it is to be kept.
func (d *dataDir) close() error {
	var err error
	if !d.keep {
		err = os.RemoveAll(d.path)
	}
	if d.lock != nil {
		d.lock.Close()
	}
	return err
}

// file is the path of a file in the directory.
func (d *dataDir) file(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// memoryBacked reports whether path is a writable directory on a tmpfs.
func memoryBacked(path string) bool {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil || fs.Type != tmpfsMagic {
		return false
	}
	return syscall.Access(path, accessWrite) == nil
}

// cause strips the path from an error about it: the caller names it.
func cause(err error) error {
	if e := (*os.PathError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}
