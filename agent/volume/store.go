package volume

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// Store is where the pods' files live: Dirs on a machine, Memory in simulation.
// Calls for different pods may be concurrent, those for one pod are not. Every
// call may be repeated, also after one that failed half-way.
type Store interface {
	PodStore
	VolumeStore
	// RecursiveReadOnly reports whether a mount can be read-only with all that is
	// mounted below it.
	RecursiveReadOnly() bool
}

// PodStore keeps the pods' directories.
type PodStore interface {
	// MakePod makes a pod's directory, for root and its group alone.
	MakePod(uid pod.UID) error
	// WriteFile writes a file of the agent's own into the pod's directory and
	// returns where it is; "" if pods have no files here. Nil content makes an
	// empty file that anybody may write to.
	WriteFile(uid pod.UID, name string, content []byte) (path string, err error)
	// RemovePod removes a pod's directory, if there is nothing mounted in it.
	RemovePod(uid pod.UID) error
	// Pods are those that have a directory.
	Pods() ([]pod.UID, error)
}

// VolumeStore keeps the pods' volumes.
type VolumeStore interface {
	// SetUp makes a volume, in a directory that exists or is made, and gives it
	// its files. Nothing is changed where all is as it should be.
	SetUp(v *Volume) error
	// HostPath is what to bind into a container for a mount of v.
	HostPath(v *Volume, s SubPath) (string, error)
	// UnmountSubPaths unmounts what HostPath has bound for a pod.
	UnmountSubPaths(uid pod.UID) error
	// TearDown unmounts and removes all of a pod's volumes. Those of CSI drivers
	// were unmounted before.
	TearDown(uid pod.UID) error
	// Usage is what an emptyDir takes of the disk, in bytes. It may be called
	// together with others for the same pod, and with an error it is what was found
	// until then.
	Usage(ctx context.Context, v *Volume) (int64, error)
}

// Kind is a kind of volume, as the kubelet's directories name it.
type Kind string

// The kinds of volumes.
const (
	EmptyDir    Kind = "empty-dir"
	HostPath    Kind = "host-path"
	ConfigMap   Kind = "configmap"
	Secret      Kind = "secret"
	DownwardAPI Kind = "downward-api"
	Projected   Kind = "projected"
	Local       Kind = "local-volume"
	// NFS is what another machine exports.
	NFS Kind = "nfs"
	// CSIDriver is what a CSI driver mounts.
	CSIDriver Kind = "csi"
	// Image is the file system of an image.
	Image Kind = "image"
	// Other is what the agent cannot make; Volume.Type says what it is.
	Other Kind = "other"
)

// hasFiles reports whether the agent writes the volume's files. Containers
// cannot.
func (k Kind) hasFiles() bool {
	return k == ConfigMap || k == Secret || k == DownwardAPI || k == Projected
}

// Volume is one volume of a pod and what belongs in it.
type Volume struct {
	Pod pod.UID
	// Name is that in the pod, or a persistent volume's own.
	Name string
	Kind Kind
	// Type is the volume's type as a manifest has it, for those of kind Other.
	Type string
	// Medium is an emptyDir's.
	Medium v1.StorageMedium
	// Size limits what is kept in memory, in bytes; 0 for no limit.
	Size int64
	// PageSize is that of huge pages, in bytes.
	PageSize int64
	// Path is that of a hostPath or a local volume, or a server with the path that
	// it exports; PathType is a hostPath's.
	Path     string
	PathType v1.HostPathType
	// Options are those that the system's mount is given for an NFS volume.
	Options []string
	// Layers are the directories that an image is made of, each over those after it.
	Layers []string
	// ReadOnly is for volumes that no container of the pod may write to.
	ReadOnly bool
	// FSGroup is the group that is to have the volume; nil for none.
	FSGroup *int64
	// KeepOwners leaves what is in a local volume, or a CSI driver's, alone if the
	// volume itself has the group already.
	KeepOwners bool
	// Files are by path below the volume, clean and relative; only for kinds
	// with files.
	Files map[string]File
	// MountPoints are directories below the volume on which containers mount
	// other volumes.
	MountPoints []string
}

// File is one file of a volume.
type File struct {
	Data []byte
	// Mode has the permission bits.
	Mode int32
	// User is the file's owner; nil for root.
	User *int64
}

// SubPath is a path in a volume that a container mounts in place of the whole, and
// how it does.
type SubPath struct {
	// Path is relative to the volume; empty for all of it.
	Path string
	// Container and Index, that of the mount in the container's spec, tell the
	// pod's subpaths apart.
	Container string
	Index     int
	// RecursiveReadOnly keeps the container from writing to what is mounted below the
	// path too.
	RecursiveReadOnly bool
}

// dir is the volume's directory below the pod's; a hostPath has none. That of a CSI
// driver's volume is in a directory with what the agent notes of it.
func (v *Volume) dir() string {
	dir := filepath.Join("volumes", "kubernetes.io~"+string(v.Kind), v.Name)
	if v.Kind == CSIDriver {
		dir = filepath.Join(dir, "mount")
	}
	return dir
}

const (
	maxPathLength = 4096
	maxNameLength = 255
)

// cleanPath returns the path of a volume's file in its one form, or why no file
// can have it.
func cleanPath(p string) (string, error) {
	switch {
	case p == "":
		return "", fmt.Errorf("invalid path %q: it is empty", p)
	case strings.HasPrefix(p, "/"):
		return "", fmt.Errorf("invalid path %q: it must be relative", p)
	case strings.ContainsRune(p, 0):
		return "", fmt.Errorf("invalid path %q: it has a null byte", p)
	case len(p) > maxPathLength:
		return "", fmt.Errorf("invalid path: longer than %d bytes", maxPathLength)
	}
	for element := range strings.SplitSeq(p, "/") {
		switch {
		case element == "..":
			return "", fmt.Errorf("invalid path %q: it must not contain '..'", p)
		case len(element) > maxNameLength:
			return "", fmt.Errorf("invalid path: a name in it is longer than %d bytes", maxNameLength)
		}
	}
	clean := filepath.Clean(p)
	// Such names are the agent's: ..data and what it leads to.
	if strings.HasPrefix(clean, "..") {
		return "", fmt.Errorf("invalid path %q: it must not start with '..'", p)
	}
	if clean == "." {
		return "", fmt.Errorf("invalid path %q: it names no file", p)
	}
	return clean, nil
}

// isName reports whether s can be the name of a directory of its own. UIDs and
// names that a static pod's author has chosen are in paths.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= maxNameLength && !strings.ContainsAny(s, "/\x00")
}
