package volume

import (
	"os"
	"path/filepath"
	"slices"

	v1 "k8s.io/api/core/v1"
	"k8s.io/mount-utils"
	netutils "k8s.io/utils/net"
)

// setNFS says what another machine exports.
func (v *Volume) setNFS(s *v1.NFSVolumeSource, readOnly bool, options []string) {
	server := s.Server
	if netutils.IsIPv6String(server) {
		server = "[" + server + "]"
	}
	v.Kind, v.Path, v.ReadOnly = NFS, server+":"+s.Path, readOnly
	v.Options = slices.Clone(options)
	if readOnly {
		v.Options = append(v.Options, "ro")
	}
	slices.Sort(v.Options)
	v.Options = slices.Compact(v.Options)
}

// setUpNFS mounts what another machine exports by the system's mount(8), which
// knows how; it takes as long as that takes.
func (d *Dirs) setUpNFS(v *Volume, dir string) error {
	// The directory itself is not looked at: if it is mounted, its server may be gone.
	parent := filepath.Dir(dir)
	if err := d.makeDirs(parent); err != nil {
		return err
	}
	mounts, err := mountsBelow(parent)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(parent)
	if err != nil || slices.Contains(mounts, filepath.Join(real, v.Name)) {
		return err
	}
	if err := d.makeDirs(dir); err != nil {
		return err
	}
	if err := d.at("mount", dir); err != nil {
		return err
	}
	err = mount.New("").MountSensitiveWithoutSystemd(v.Path, dir, "nfs", v.Options, nil)
	if err != nil {
		// It stays if it has come to be mounted all the same.
		_ = os.Remove(dir)
	}
	return err
}
