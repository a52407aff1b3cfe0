package volume

import (
	"cmp"
	"context"
	"io/fs"
	"path"
	"slices"
	"sync"
	"unique"

	"nodelet/agent/pod"
)

// Memory is the Store of simulated nodes. It keeps the volumes' files, equal
// contents once for all pods and nodes of the process, and nothing of what
// containers would do with them. It has volumes of every type. All methods may be
// called concurrently.
type Memory struct {
	// Written is what the containers of a pod have written to one of its volumes, in
	// bytes; nil for nothing. It is set before the first use.
	Written func(uid pod.UID, volume string) int64

	mu   sync.Mutex
	pods map[pod.UID][]memoryVolume
}

// memoryVolume is a volume with its files by path.
type memoryVolume struct {
	name  string
	files []memoryFile
}

// memoryFile is a file of a volume.
type memoryFile struct {
	path    string
	content unique.Handle[string]
}

// NewMemory returns an empty Store.
func NewMemory() *Memory { return &Memory{pods: map[pod.UID][]memoryVolume{}} }

// MakePod is in PodStore.
func (s *Memory) MakePod(uid pod.UID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pods[uid]; !ok {
		s.pods[uid] = nil
	}
	return nil
}

// WriteFile is in PodStore. Simulated containers have no files of their own.
func (s *Memory) WriteFile(pod.UID, string, []byte) (string, error) { return "", nil }

// RemovePod is in PodStore.
func (s *Memory) RemovePod(uid pod.UID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	return nil
}

// Pods is in PodStore.
func (s *Memory) Pods() ([]pod.UID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uids := make([]pod.UID, 0, len(s.pods))
	for uid := range s.pods {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	return uids, nil
}

// SetUp is in VolumeStore.
func (s *Memory) SetUp(v *Volume) error {
	if !v.Kind.hasFiles() {
		return nil
	}
	files := make([]memoryFile, 0, len(v.Files))
	for path, f := range v.Files {
		files = append(files, memoryFile{path, unique.Make(string(f.Data))})
	}
	slices.SortFunc(files, func(a, b memoryFile) int { return cmp.Compare(a.path, b.path) })
	s.mu.Lock()
	defer s.mu.Unlock()
	volume := s.volume(v.Pod, v.Name)
	switch {
	case volume == nil:
		s.pods[v.Pod] = append(s.pods[v.Pod], memoryVolume{v.Name, files})
	case !slices.Equal(volume.files, files):
		volume.files = files
	}
	return nil
}

// volume is one of a pod's, nil if it has not been set up. Called with s.mu held.
func (s *Memory) volume(uid pod.UID, name string) *memoryVolume {
	for i := range s.pods[uid] {
		if s.pods[uid][i].name == name {
			return &s.pods[uid][i]
		}
	}
	return nil
}

// RecursiveReadOnly is in Store.
func (s *Memory) RecursiveReadOnly() bool { return true }

// HostPath is in VolumeStore. The path exists nowhere.
func (s *Memory) HostPath(v *Volume, sub SubPath) (string, error) {
	dir := v.Path
	if v.Kind != HostPath {
		dir = path.Join("/pods", string(v.Pod), v.dir())
	}
	return path.Join(dir, sub.Path), nil
}

// UnmountSubPaths is in VolumeStore. There are none.
func (s *Memory) UnmountSubPaths(pod.UID) error { return nil }

// TearDown is in VolumeStore.
func (s *Memory) TearDown(uid pod.UID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.pods[uid]; ok {
		s.pods[uid] = nil
	}
	return nil
}

// Usage is in VolumeStore.
func (s *Memory) Usage(_ context.Context, v *Volume) (int64, error) {
	if s.Written == nil {
		return 0, nil
	}
	return s.Written(v.Pod, v.Name), nil
}

// ReadFile returns a file of a pod's volume, or fs.ErrNotExist.
func (s *Memory) ReadFile(uid pod.UID, volume, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var files []memoryFile
	if v := s.volume(uid, volume); v != nil {
		files = v.files
	}
	i, ok := slices.BinarySearchFunc(files, name, func(f memoryFile, name string) int { return cmp.Compare(f.path, name) })
	if !ok {
		return "", &fs.PathError{Op: "read", Path: path.Join(volume, name), Err: fs.ErrNotExist}
	}
	return files[i].content.Value(), nil
}
