//go:build linux

package csitest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	spec "github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NodeGetInfo implements the node service.
func (d *Driver) NodeGetInfo(context.Context, *spec.NodeGetInfoRequest) (*spec.NodeGetInfoResponse, error) {
	r := &spec.NodeGetInfoResponse{NodeId: d.config.NodeID, MaxVolumesPerNode: d.config.MaxVolumes}
	if d.config.Topology != nil {
		r.AccessibleTopology = &spec.Topology{Segments: d.config.Topology}
	}
	return r, nil
}

// NodeGetCapabilities implements the node service.
func (d *Driver) NodeGetCapabilities(context.Context, *spec.NodeGetCapabilitiesRequest) (*spec.NodeGetCapabilitiesResponse, error) {
	r := &spec.NodeGetCapabilitiesResponse{}
	for _, can := range d.config.Can {
		r.Capabilities = append(r.Capabilities, &spec.NodeServiceCapability{
			Type: &spec.NodeServiceCapability_Rpc{Rpc: &spec.NodeServiceCapability_RPC{Type: can}}})
	}
	return r, nil
}

// NodeStageVolume implements the node service.
func (d *Driver) NodeStageVolume(_ context.Context, r *spec.NodeStageVolumeRequest) (*spec.NodeStageVolumeResponse, error) {
	if info, err := os.Stat(r.StagingTargetPath); err != nil || !info.IsDir() {
		return nil, status.Errorf(codes.FailedPrecondition, "the agent has not made %s: %v", r.StagingTargetPath, err)
	}
	data, err := d.data(r.VolumeId)
	if err == nil {
		err = bind(data, r.StagingTargetPath, false)
	}
	return &spec.NodeStageVolumeResponse{}, internal(err)
}

// NodeUnstageVolume implements the node service.
func (d *Driver) NodeUnstageVolume(_ context.Context, r *spec.NodeUnstageVolumeRequest) (*spec.NodeUnstageVolumeResponse, error) {
	published, err := d.published(r.VolumeId, r.StagingTargetPath)
	if err == nil && published != "" {
		return nil, status.Errorf(codes.FailedPrecondition, "volume %s is still published at %s", r.VolumeId, published)
	}
	if err == nil {
		err = release(r.StagingTargetPath)
	}
	return &spec.NodeUnstageVolumeResponse{}, internal(err)
}

// NodePublishVolume implements the node service.
func (d *Driver) NodePublishVolume(_ context.Context, r *spec.NodePublishVolumeRequest) (*spec.NodePublishVolumeResponse, error) {
	if info, err := os.Stat(filepath.Dir(r.TargetPath)); err != nil || !info.IsDir() {
		return nil, status.Errorf(codes.FailedPrecondition, "the agent has not made the directory of %s: %v", r.TargetPath, err)
	}
	from, err := d.data(r.VolumeId)
	if r.StagingTargetPath != "" {
		from = r.StagingTargetPath
		if staged, err := mountinfo.Mounted(from); err != nil || !staged {
			return nil, status.Errorf(codes.FailedPrecondition, "volume %s is not staged: %v", r.VolumeId, err)
		}
	}
	if err == nil {
		err = os.MkdirAll(r.TargetPath, 0o750)
	}
	if err == nil {
		err = bind(from, r.TargetPath, r.Readonly)
	}
	return &spec.NodePublishVolumeResponse{}, internal(err)
}

// NodeUnpublishVolume implements the node service. What is in a volume that lives
// with its pod goes.
func (d *Driver) NodeUnpublishVolume(_ context.Context, r *spec.NodeUnpublishVolumeRequest) (*spec.NodeUnpublishVolumeResponse, error) {
	err := release(r.TargetPath)
	if err == nil {
		if err = os.Remove(r.TargetPath); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil && ephemeral.MatchString(r.VolumeId) {
		err = os.RemoveAll(filepath.Join(d.config.Data, r.VolumeId))
	}
	return &spec.NodeUnpublishVolumeResponse{}, internal(err)
}

// ephemeral matches the IDs of volumes that live with their pods.
var ephemeral = regexp.MustCompile("^csi-[0-9a-f]{64}$")

// data is the directory of a volume.
func (d *Driver) data(id string) (string, error) {
	dir := filepath.Join(d.config.Data, filepath.Base(id))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, nil
}

// published is a place other than its global mount where a volume is mounted, ""
// if there is none.
func (d *Driver) published(id, staged string) (string, error) {
	data, err := filepath.EvalSymlinks(filepath.Join(d.config.Data, filepath.Base(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.Mountpoint == staged || !strings.HasSuffix(data, m.Root) || m.Root == "/" || strings.HasPrefix(m.Mountpoint, data), false
	})
	if err != nil || len(mounts) == 0 {
		return "", err
	}
	return mounts[0].Mountpoint, nil
}

// bind mounts a directory, unless it is mounted.
func bind(from, to string, readOnly bool) error {
	mounted, err := mountinfo.Mounted(to)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return &fs.PathError{Op: "bind", Path: to, Err: err}
	}
	if !readOnly {
		return nil
	}
	return unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// release unmounts a directory, if it is mounted.
func release(dir string) error {
	mounted, err := mountinfo.Mounted(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !mounted {
		return err
	}
	return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
}

func internal(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.Internal, err.Error())
}
