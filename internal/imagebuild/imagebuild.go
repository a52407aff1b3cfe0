// Package imagebuild makes container images of one layer from given files, in
// the format of `docker load`. The same input makes the same bytes, and so the
// same image ID, everywhere and always: no time, user or machine gets into them.
package imagebuild

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is a regular file of an image; it belongs to root.
type File struct {
	// Path is absolute in the image. Directories on the way are made, with
	// mode 0755.
	Path string
	// Mode is the file's permissions; 0 is 0755.
	Mode int64
	Data []byte
}

// Spec says what an image is.
type Spec struct {
	// Architecture is as in GOARCH; empty is this machine's.
	Architecture string
	// Config is what containers of the image run and as whom.
	Config ocispec.ImageConfig
	// Files are all that the image holds, in any order.
	Files []File
}

// Image is an image that has been built. It is a value that nothing changes.
type Image struct {
	// ID is the digest of the image's configuration: what Docker calls the
	// image's ID where it stores images by itself. Where containerd stores them
	// for it, the ID is another.
	ID string

	config, layer []byte
}

// Build makes an image. An error is the fault of a file's path.
func Build(spec Spec) (Image, error) {
	layer, err := buildLayer(spec.Files)
	if err != nil {
		return Image{}, err
	}
	created := time.Unix(0, 0).UTC()
	config, err := json.Marshal(ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{Architecture: cmp.Or(spec.Architecture, runtime.GOARCH), OS: "linux"},
		Config:   spec.Config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
		History:  []ocispec.History{{Created: &created, CreatedBy: "nodelet"}},
	})
	if err != nil {
		return Image{}, fmt.Errorf("image configuration: %w", err)
	}
	return Image{ID: digest.FromBytes(config).String(), config: config, layer: layer}, nil
}

// Archive returns the image as `docker load` takes it, under the given tags.
// Loading it twice changes nothing.
func (i Image) Archive(tags ...string) ([]byte, error) {
	config := strings.TrimPrefix(i.ID, "sha256:") + ".json"
	layer := digest.FromBytes(i.layer).Encoded() + "/layer.tar"
	manifest, err := json.Marshal([]struct {
		Config   string
		RepoTags []string
		Layers   []string
	}{{config, tags, []string{layer}}})
	if err != nil {
		return nil, fmt.Errorf("image manifest: %w", err)
	}
	return archive([]tarEntry{{name: config, data: i.config}, {name: layer, data: i.layer},
		{name: "manifest.json", data: manifest}})
}

// Config returns the image's configuration as JSON; ID is its digest. It must
// not be changed.
func (i Image) Config() []byte { return i.config }

// Layer returns the image's only layer, a tar that is not compressed. It must
// not be changed.
func (i Image) Layer() []byte { return i.layer }

func buildLayer(files []File) ([]byte, error) {
	var entries []tarEntry
	// isDir has what was made so far.
	isDir := map[string]bool{"/": true}
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	for _, f := range files {
		_, used := isDir[f.Path]
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || used {
			return nil, fmt.Errorf("file %q of the image: the path must be absolute, clean and used once", f.Path)
		}
		var parents []tarEntry
		dir := path.Dir(f.Path)
		for _, made := isDir[dir]; !made; _, made = isDir[dir] {
			isDir[dir] = true
			parents = append(parents, tarEntry{name: dir[1:] + "/", mode: 0o755})
			dir = path.Dir(dir)
		}
		if !isDir[dir] {
			return nil, fmt.Errorf("file %q of the image: %s is a file, too", f.Path, dir)
		}
		isDir[f.Path] = false
		slices.Reverse(parents)
		entries = append(entries, parents...)
		entries = append(entries, tarEntry{name: f.Path[1:], mode: cmp.Or(f.Mode, 0o755), data: f.Data})
	}
	return archive(entries)
}

// tarEntry is a file, or a directory where the name ends in a slash.
type tarEntry struct {
	name string
	mode int64 // 0 is 0644
	data []byte
}

func archive(entries []tarEntry) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var errs []error
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: cmp.Or(e.mode, 0o644), Size: int64(len(e.data)),
			ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		errs = append(errs, w.WriteHeader(header))
		_, err := w.Write(e.data)
		errs = append(errs, err)
	}
	errs = append(errs, w.Close())
	return b.Bytes(), errors.Join(errs...)
}
