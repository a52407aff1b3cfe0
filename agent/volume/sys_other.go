//go:build !linux

package volume

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"nodelet/agent/pod"
)

// Dirs is for Linux. Elsewhere there are only simulated nodes, which use Memory.

func isMountPoint(string) (bool, error)               { return false, errors.ErrUnsupported }
func mountTmpfs(string, string) error                 { return errors.ErrUnsupported }
func mountHugePages(string, string) error             { return errors.ErrUnsupported }
func groupOf(fs.FileInfo) int64                       { return -1 }
func bindMount(*os.File, string) error                { return errors.ErrUnsupported }
func mountsBelow(string) ([]string, error)            { return nil, errors.ErrUnsupported }
func detach(string) error                             { return errors.ErrUnsupported }
func openBelow(string, string) (*os.File, error)      { return nil, errors.ErrUnsupported }
func (d *Dirs) UnmountSubPaths(pod.UID) error         { return errors.ErrUnsupported }
func (d *Dirs) TearDown(pod.UID) error                { return errors.ErrUnsupported }
func (d *Dirs) RemovePod(pod.UID) error               { return errors.ErrUnsupported }
func (d *Dirs) RecursiveReadOnly() bool               { return false }
func (d *Dirs) readOnly(string, string, string) error { return errors.ErrUnsupported }
func (d *Dirs) mountLayers([]string, string) error    { return errors.ErrUnsupported }
func (d *Dirs) Usage(context.Context, *Volume) (int64, error) {
	return 0, errors.ErrUnsupported
}
func (d *Dirs) makeBelow(string, *os.File, string) (*os.File, error) {
	return nil, errors.ErrUnsupported
}
