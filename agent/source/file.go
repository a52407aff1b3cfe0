package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/internal/sleep"
)

// settle is how long a change is left alone: whoever writes a file may not be
// done with it, and others may follow.
const settle = 50 * time.Millisecond

// FileConfig says where manifests are. All fields are needed.
type FileConfig struct {
	// Path is a directory of manifests, or one manifest. It may not exist yet.
	Path     string
	NodeName string
	// Period is the time between two looks, whatever was noticed between them.
	Period time.Duration
}

// File is the source of the static pods whose manifests are files. In a
// directory, files whose names begin with a dot and subdirectories are passed
// over.
//
// A faulty manifest is logged, once, and has no pods; the other files' are as
// they were. A single manifest that becomes faulty keeps its pods.
type File struct {
	config  FileConfig
	log     *slog.Logger
	listing *listing
	faults  faults
	// good are the pods of each file when it was last without a fault.
	good map[string][]*v1.Pod
	// notifier is nil where the system has none to give.
	notifier *notifier
	// unnoticed has Run do without a notifier.
	unnoticed bool
}

// NewFile returns a source that hands pods to sink; nothing is read before Run.
func NewFile(config FileConfig, sink Sink, log *slog.Logger) *File {
	config.Path = filepath.Clean(config.Path)
	return &File{config: config, log: log, listing: newListing(pod.SourceFile, sink)}
}

// Run reads the manifests, and again in each period and soon after each change,
// until ctx ends. The source is synced after the first look that could read the
// path, or found nothing there.
func (f *File) Run(ctx context.Context) {
	var changed <-chan struct{}
	if !f.unnoticed {
		n, err := newNotifier()
		if err != nil {
			f.log.Warn("Changes of manifests are seen only in each period", "period", f.config.Period, "err", err)
		} else {
			f.notifier = n
			changed = n.changed
			defer n.close()
		}
	}
	ticker := time.NewTicker(f.config.Period)
	defer ticker.Stop()
	f.look(false)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.look(false)
		case <-changed:
			if !sleep.For(ctx, settle) {
				return
			}
			select {
			case <-changed:
			default:
			}
			f.look(true)
		}
	}
}

// look reads everything and tells the sink. early says that it is before the
// period's end, so that a faulty file may be one that is being written: its pods
// are kept for now.
func (f *File) look(early bool) {
	pods, err := f.read(early)
	if err == nil {
		f.listing.replace(pods)
	}
	f.faults.looked()
}

// read returns all pods there are. With an error, which was told, nothing can be
// said of them.
func (f *File) read(early bool) ([]*v1.Pod, error) {
	path := f.config.Path
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.good = nil
		f.tell(path, nil, errors.New("there is no such file or directory"))
		return nil, nil
	case err == nil && info.IsDir():
		f.watch(path, "")
		return f.readDir(early)
	case err != nil:
		f.tell(path, nil, err)
		return nil, err
	}
	// An editor may put another file in its place, so it is its directory that is
	// watched.
	f.watch(filepath.Dir(path), path)
	pods, data, err := f.readFile(path)
	if err != nil {
		f.tell(path, data, err)
	}
	return pods, err
}

func (f *File) tell(path string, data []byte, err error) { f.faults.tell(f.log, path, data, err) }

// watch has changes in a directory noticed, of all files or of the one named.
func (f *File) watch(dir, only string) {
	if f.notifier == nil {
		return
	}
	if err := f.notifier.watch(dir, only); err != nil {
		f.tell("changes of "+dir, nil, err)
	}
}

// readDir returns the pods of all files, those of the last file where several
// have a pod of one name.
func (f *File) readDir(early bool) ([]*v1.Pod, error) {
	entries, err := os.ReadDir(f.config.Path)
	if err != nil {
		f.tell(f.config.Path, nil, err)
		return nil, err
	}
	good := map[string][]*v1.Pod{}
	var pods []*v1.Pod
	for _, entry := range entries {
		path := filepath.Join(f.config.Path, entry.Name())
		if strings.HasPrefix(entry.Name(), ".") || isDir(path) {
			continue
		}
		found, data, err := f.readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			f.tell(path, data, err)
			found = nil
			if early {
				found = f.good[path]
			}
		}
		good[path] = found
		pods = f.merge(pods, found, path)
	}
	f.good = good
	return pods, nil
}

// merge adds a file's pods; they displace others of their name or UID.
func (f *File) merge(pods, found []*v1.Pod, path string) []*v1.Pod {
	kept := pods[:0]
	for _, p := range pods {
		displaced := false
		for _, q := range found {
			displaced = displaced || p.UID == q.UID || pod.FullName(p) == pod.FullName(q)
		}
		if displaced {
			f.tell(path+" "+pod.FullName(p), nil, errors.New("the pod is in another manifest as well; this one is used"))
			continue
		}
		kept = append(kept, p)
	}
	return append(kept, found...)
}

// readFile returns a file's pods and its content.
func (f *File) readFile(path string) ([]*v1.Pod, []byte, error) {
	// To open a pipe would wait for its other end.
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errors.New("not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	data, err := readAll(file)
	if err != nil {
		return nil, nil, err
	}
	pods, err := decode(data, origin{pod.SourceFile, f.config.NodeName, path})
	return pods, data, err
}

// readAll reads a manifest of a size that can be one.
func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err == nil && len(data) > maxManifest {
		err = fmt.Errorf("the manifest is larger than %d bytes", maxManifest)
	}
	return data, err
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
