package csi

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/sys/mountinfo"
)

// dataFile says of a mount beside it whose it is; its name, and the names of its
// fields, are the kubelet's.
const dataFile = "vol_data.json"

// dirMode is for directories that only the agent and drivers enter.
const dirMode = 0o750

// volumeData is what a dataFile holds. That of a global mount has the driver and
// the volume only.
type volumeData struct {
	Driver       string `json:"driverName"`
	Handle       string `json:"volumeHandle"`
	Volume       string `json:"specVolID,omitempty"`
	Node         string `json:"nodeName,omitempty"`
	AttachmentID string `json:"attachmentID,omitempty"`
	Mode         string `json:"volumeLifecycleMode,omitempty"`
}

func (d *volumeData) key() volumeKey { return volumeKey{d.Driver, d.Handle} }

// save writes the data into a directory, which is made, all of it or nothing.
func (d *volumeData) save(dir string) error {
	data, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	file := filepath.Join(dir, dataFile)
	if err := os.WriteFile(file+".new", append(data, '\n'), 0o640); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// load reads a directory's data; nil if it has none that can be made sense of.
func load(dir string) (*volumeData, error) {
	data, err := os.ReadFile(filepath.Join(dir, dataFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &volumeData{}
	if json.Unmarshal(data, d) != nil || d.Driver == "" || d.Handle == "" {
		return nil, nil
	}
	return d, nil
}

// removeMount removes a directory on which nothing is mounted any more, with the
// data beside it. Nothing is removed while there is a mount, or anything in the
// directory. What is gone already is none of its business.
func (m *Manager) removeMount(mount string) error {
	mounted, err := isMounted(mount)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("still mounted: %q", mount)
	}
	dir := filepath.Dir(mount)
	for _, path := range []string{mount, filepath.Join(dir, dataFile+".new"), filepath.Join(dir, dataFile), dir} {
		if err := m.at("remove " + filepath.Base(path)); err != nil {
			return err
		}
		// Never RemoveAll: what is in it is somebody's data.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// isMounted reports whether something is mounted on a path; what does not exist is
// none.
func isMounted(path string) (bool, error) {
	mounted, err := mountinfo.Mounted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return mounted, err
}

// volumeKey names a volume.
type volumeKey struct{ driver, handle string }

// attachmentID is the name of the volume's attachment to a node.
func (k volumeKey) attachmentID(node string) string {
	return fmt.Sprintf("csi-%x", sha256.Sum256([]byte(k.handle+k.driver+node)))
}

// uniqueName is the volume's name in a node's status.
func (k volumeKey) uniqueName() string { return "kubernetes.io/csi/" + k.driver + "^" + k.handle }

// globalMount is where a volume is mounted for all pods of the node.
func (m *Manager) globalMount(k volumeKey) string {
	return filepath.Join(m.stagedDir(), k.driver, fmt.Sprintf("%x", sha256.Sum256([]byte(k.handle))), "globalmount")
}

// stagedDir has the drivers' directories with global mounts.
func (m *Manager) stagedDir() string {
	return filepath.Join(m.config.Root, "plugins", "kubernetes.io", "csi")
}
