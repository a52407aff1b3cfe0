package docker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// removeCgroup removes a pod's cgroup, which the engine has made for its
// containers and does not remove: one directory a hierarchy, children first.
func (r *Runtime) removeCgroup(parent string) {
	if parent == "" || r.config.CgroupRoot == "" {
		return
	}
	dirs := []string{r.config.CgroupRoot}
	if entries, err := os.ReadDir(r.config.CgroupRoot); err == nil {
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(r.config.CgroupRoot, e.Name()))
			}
		}
	}
	relative := strings.TrimPrefix(parent, "/")
	if !filepath.IsLocal(relative) {
		return
	}
	for _, dir := range dirs {
		// Rmdir, not RemoveAll: the files in it are the kernel's, and what is
		// still in use must stay.
		err := os.Remove(filepath.Join(dir, relative))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			r.log.Debug("Could not remove a pod's cgroup", "cgroup", parent, "err", err)
		}
	}
}
