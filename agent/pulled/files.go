package pulled

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// files are the records on disk: JSON of kubelet.config.k8s.io/v1beta1, in
// pulling an ImagePullIntent for each image that is being pulled, in pulled an
// ImagePulledRecord for each that was.
type files struct{ dir string }

const (
	pulling    = "pulling"
	pulledDir  = "pulled"
	namePrefix = "sha256-"
	newSuffix  = ".tmp"
)

// fileName is the name of the file of an image's name or ID.
func fileName(of string) string { return fmt.Sprintf("%s%x", namePrefix, sha256.Sum256([]byte(of))) }

func (f *files) make() error {
	return errors.Join(os.MkdirAll(filepath.Join(f.dir, pulling), 0o700), os.MkdirAll(filepath.Join(f.dir, pulledDir), 0o700))
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{Kind: kind, APIVersion: kubeletconfig.SchemeGroupVersion.String()}
}

func (f *files) writeIntent(image string) error {
	return f.write(pulling, image, &kubeletconfig.ImagePullIntent{TypeMeta: typeMeta("ImagePullIntent"), Image: image})
}

func (f *files) removeIntent(image string) error {
	err := os.Remove(filepath.Join(f.dir, pulling, fileName(image)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f *files) writeRecord(record *kubeletconfig.ImagePulledRecord) error {
	record.TypeMeta = typeMeta("ImagePulledRecord")
	return f.write(pulledDir, record.ImageRef, record)
}

// write replaces a file at once.
func (f *files) write(dir, of string, object any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	name := filepath.Join(f.dir, dir, fileName(of))
	made, err := os.OpenFile(name+newSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = made.Write(data)
	if err := errors.Join(err, made.Sync(), made.Close()); err != nil {
		return err
	}
	return os.Rename(name+newSuffix, name)
}

// load reads all files.
func (r *Records) load() error {
	err := r.files.each(pulling, func(name string, data []byte) error {
		var intent kubeletconfig.ImagePullIntent
		err := json.Unmarshal(data, &intent)
		if err == nil && intent.Image != "" {
			r.intents[intent.Image] = 0
		}
		return err
	}, r.broken)
	if err != nil {
		return err
	}
	return r.files.each(pulledDir, func(name string, data []byte) error {
		record := &kubeletconfig.ImagePulledRecord{}
		err := json.Unmarshal(data, record)
		if err == nil && fileName(record.ImageRef) != name {
			err = fmt.Errorf("it is of image %q, whose file has another name", record.ImageRef)
		}
		if err == nil {
			r.images[record.ImageRef] = record
		}
		return err
	}, func(path string, err error) {
		r.unread[filepath.Base(path)] = true
		r.broken(path, err)
	})
}

func (r *Records) broken(path string, err error) {
	r.log.Warn("Could not read a record of pulled images", "path", path, "err", err)
}

// each calls read with each file of a directory, and broken where it fails.
func (f *files) each(dir string, read func(name string, data []byte) error, broken func(path string, err error)) error {
	entries, err := os.ReadDir(filepath.Join(f.dir, dir))
	if err != nil {
		return fmt.Errorf("listing the records of pulled images: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || !strings.HasPrefix(e.Name(), namePrefix) || strings.HasSuffix(e.Name(), newSuffix) {
			continue
		}
		path := filepath.Join(f.dir, dir, e.Name())
		data, err := os.ReadFile(path)
		if err == nil {
			err = read(e.Name(), data)
		}
		if err != nil {
			broken(path, err)
		}
	}
	return nil
}
