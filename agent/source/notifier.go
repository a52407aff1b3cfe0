package source

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// notifier notices changes of files. It only brings looks forward: the system
// may have none to give, lose changes, or not see them (a network's files).
type notifier struct {
	watcher *fsnotify.Watcher
	// changed has an entry when something changed since it was last taken.
	changed chan struct{}
	done    chan struct{}

	mu sync.Mutex
	// dir is watched; only is the one file in it that matters, "" for all.
	dir, only string
}

func newNotifier() (*notifier, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("asking for notifications of changed files: %w", err)
	}
	n := &notifier{watcher: w, changed: make(chan struct{}, 1), done: make(chan struct{})}
	go n.run()
	return n, nil
}

// watch notices changes in dir from now on. It is to be called in each period:
// a directory that was made anew is another one.
func (n *notifier) watch(dir, only string) error {
	n.mu.Lock()
	old := n.dir
	n.dir, n.only = dir, only
	n.mu.Unlock()
	if old != "" && old != dir {
		// It may be gone, and its watch with it.
		_ = n.watcher.Remove(old)
	}
	if err := n.watcher.Add(dir); err != nil {
		return fmt.Errorf("watching %s for changes: %w", dir, err)
	}
	return nil
}

func (n *notifier) run() {
	defer close(n.done)
	for {
		select {
		case e, ok := <-n.watcher.Events:
			if !ok {
				return
			}
			if n.matters(e.Name) {
				n.notify()
			}
		case _, ok := <-n.watcher.Errors:
			if !ok {
				return
			}
			// Changes were lost.
			n.notify()
		}
	}
}

func (n *notifier) matters(path string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.only != "" {
		return path == n.only
	}
	return path == n.dir || !strings.HasPrefix(filepath.Base(path), ".")
}

func (n *notifier) notify() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// close ends the watching and returns when it has ended.
func (n *notifier) close() {
	_ = n.watcher.Close()
	<-n.done
}
