package volume

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountLayers mounts directories over each other, read-only and for nobody to run a
// program from. The lowest is what they
// are mounted on, which is empty: the kernel wants at least two.
func (d *Dirs) mountLayers(layers []string, target string) error {
	var paths []string
	for _, layer := range slices.Concat(layers, []string{target}) {
		f, err := os.OpenFile(layer, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		// Short, for all have to go into a page, and without characters that mean
		// something there.
		paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	if err := d.at("mount", target); err != nil {
		return err
	}
	if err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY|unix.MS_NOEXEC, "lowerdir="+strings.Join(paths, ":")); err != nil {
		return &fs.PathError{Op: "mount overlay", Path: target, Err: err}
	}
	return nil
}
