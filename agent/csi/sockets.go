package csi

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// socket is a registration socket that is being served.
type socket struct {
	// file tells it from another one of the same path.
	file os.FileInfo
	end  context.CancelFunc
	done chan struct{}
}

// watchRegistry serves the sockets in the registry until ctx ends. It learns of
// new ones from the kernel, and from a look now and then.
func (m *Manager) watchRegistry(ctx context.Context) {
	served := map[string]*socket{}
	var all sync.WaitGroup
	defer all.Wait()
	events := m.notifier()
	if events != nil {
		defer events.Close()
	}
	rescan := time.NewTicker(m.config.Rescan)
	defer rescan.Stop()
	for {
		m.scan(ctx, served, &all, events)
		var changed chan fsnotify.Event
		var failed chan error
		if events != nil {
			changed, failed = events.Events, events.Errors
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case err := <-failed:
			m.Log.Warn("Could not follow the plugin registry; it is read now and then", "err", err)
		case <-rescan.C:
		}
	}
}

// notifier tells of changes, or is nil where the kernel has no more of its kind.
func (m *Manager) notifier() *fsnotify.Watcher {
	events, err := fsnotify.NewWatcher()
	if err != nil {
		m.Log.Warn("Could not follow the plugin registry; it is read now and then", "err", err)
		return nil
	}
	return events
}

// scan serves the sockets that are new, and ends what is gone or has been
// replaced.
func (m *Manager) scan(ctx context.Context, served map[string]*socket, all *sync.WaitGroup, events *fsnotify.Watcher) {
	found := m.sockets(events)
	if found == nil {
		return
	}
	for path, s := range served {
		if file, ok := found[path]; !ok || !sameSocket(s.file, file) {
			s.end()
		}
		select {
		case <-s.done:
			delete(served, path)
		default:
		}
	}
	for path, file := range found {
		old := served[path]
		if old != nil && sameSocket(old.file, file) {
			continue
		}
		own, end := context.WithCancel(ctx)
		s := &socket{file: file, end: end, done: make(chan struct{})}
		served[path] = s
		all.Go(func() {
			defer close(s.done)
			defer end()
			if old != nil {
				// First the one before is forgotten.
				<-old.done
			}
			m.serve(ctx, own, path)
		})
	}
}

// sockets are those in the registry and its folders by path, nil if it cannot be
// read. Names that begin with a dot are passed over.
func (m *Manager) sockets(events *fsnotify.Watcher) map[string]os.FileInfo {
	if err := os.MkdirAll(m.registry, 0o755); err != nil {
		m.Log.Warn("Could not make the plugin registry", "err", err)
		return nil
	}
	found := map[string]os.FileInfo{}
	err := filepath.WalkDir(m.registry, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == m.registry:
			return err
		case err != nil:
			// It went away meanwhile.
			return nil
		case path != m.registry && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
		case entry.IsDir() && events != nil:
			if err := events.Add(path); err != nil {
				m.Log.Warn("Could not follow a folder of the plugin registry", "path", path, "err", err)
			}
		case entry.Type()&fs.ModeSocket != 0:
			if file, err := entry.Info(); err == nil {
				found[path] = file
			}
		}
		return nil
	})
	if err != nil {
		m.Log.Warn("Could not read the plugin registry", "err", err)
		return nil
	}
	return found
}

func sameSocket(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime())
}
