package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// heard is a sink that notes what it is told, and the log beside it.
type heard struct {
	mu    sync.Mutex
	calls []string
	// told gets an entry with each call.
	told   chan string
	log    bytes.Buffer
	synced bool
}

func newHeard() *heard { return &heard{told: make(chan string, 100)} }

func (h *heard) note(call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, call)
	h.told <- call
}

func image(p *v1.Pod) string { return p.Name + " " + p.Spec.Containers[0].Image }

func (h *heard) Put(source pod.Source, p *v1.Pod) {
	h.note(fmt.Sprintf("put %s %s", source, image(p)))
}
func (h *heard) Delete(source pod.Source, p *v1.Pod) {
	h.note(fmt.Sprintf("delete %s %s", source, image(p)))
}

// Synced is noted once.
func (h *heard) Synced(pod.Source) {
	h.mu.Lock()
	known := h.synced
	h.synced = true
	h.mu.Unlock()
	if !known {
		h.note("synced")
	}
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func (h *heard) logger() *slog.Logger { return slog.New(slog.NewTextHandler(h, nil)) }

// expect has the test fail unless the sink was told this since the last time,
// and the log has so many new lines.
func (h *heard) expect(t *testing.T, lines int, want ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.Equal(h.calls, want) {
		t.Errorf("heard %q, want %q", h.calls, want)
	}
	if n := strings.Count(h.log.String(), "\n"); n != lines {
		t.Errorf("%d lines of log, want %d:\n%s", n, lines, h.log.String())
	}
	h.calls = nil
	h.log.Reset()
}

func manifest(name, image string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c, image: %s}]}\n", name, image)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

const period = 20 * time.Second

// watchFiles runs a source of a path, without notifications, beside f.
func watchFiles(t *testing.T, path string, f func(t *testing.T, h *heard)) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeard()
		source := NewFile(FileConfig{Path: path, NodeName: "n", Period: period}, h, h.logger())
		source.unnoticed = true
		runBeside(t, source.Run, func() { f(t, h) })
	})
}

func runBeside(t *testing.T, run func(context.Context), f func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { run(ctx); close(done) }()
	synctest.Wait()
	f()
	cancel()
	<-done
}

func nextPeriod() {
	time.Sleep(period)
	synctest.Wait()
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.json")
	write(t, a, manifest("a", "one"))
	write(t, b, "nonsense")
	write(t, filepath.Join(dir, ".hidden"), manifest("hidden", "x"))
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "sub", "c"), manifest("sub", "x"))
	watchFiles(t, dir, func(t *testing.T, h *heard) {
		if !strings.Contains(h.log.String(), b) {
			t.Errorf("the log does not name the faulty file: %s", h.log.String())
		}
		h.expect(t, 1, "put file a-n one", "synced")
		nextPeriod()
		h.expect(t, 0)
		write(t, b, "other nonsense")
		nextPeriod()
		h.expect(t, 1)
		write(t, b, manifest("b", "one"))
		write(t, a, "# touched\n"+manifest("a", "one"))
		nextPeriod()
		h.expect(t, 0, "put file b-n one")
		write(t, a, manifest("a", "two"))
		nextPeriod()
		h.expect(t, 0, "delete file a-n one", "put file a-n two")
		// Another file with a pod of that name: the last one has it.
		write(t, b, manifest("a", "three"))
		nextPeriod()
		h.expect(t, 1, "delete file a-n two", "delete file b-n one", "put file a-n three")
		nextPeriod()
		h.expect(t, 0)
		remove(t, b)
		write(t, a, manifest("a", ""))
		nextPeriod()
		h.expect(t, 1, "delete file a-n three")
	})
}

// A file that is being written is not one whose pods have gone.
func TestEarlyLookKeepsFaultyFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	write(t, path, manifest("a", "one"))
	h := newHeard()
	f := NewFile(FileConfig{Path: dir, NodeName: "n", Period: period}, h, h.logger())
	f.look(false)
	h.expect(t, 0, "put file a-n one", "synced")
	write(t, path, "")
	f.look(true)
	f.look(true)
	h.expect(t, 1)
	f.look(false)
	h.expect(t, 0, "delete file a-n one")
	write(t, path, manifest("a", "one"))
	f.look(true)
	h.expect(t, 0, "put file a-n one")
}

// A UID of the manifest's own is kept by a changed pod, unless it is another
// pod.
func TestOwnUID(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	own := func(name, image string) string {
		return strings.Replace(manifest(name, image), "name:", "uid: mine, name:", 1)
	}
	write(t, path, own("a", "one"))
	watchFiles(t, path, func(t *testing.T, h *heard) {
		h.expect(t, 0, "put file a-n one", "synced")
		write(t, path, own("a", "two"))
		nextPeriod()
		h.expect(t, 0, "put file a-n two")
		write(t, path, own("b", "two"))
		nextPeriod()
		h.expect(t, 0, "delete file a-n two", "put file b-n two")
	})
}

func TestSingleFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods")
	watchFiles(t, path, func(t *testing.T, h *heard) {
		// Nothing there is an answer, too.
		h.expect(t, 1, "synced")
		nextPeriod()
		h.expect(t, 0)
		write(t, path, `{"apiVersion":"v1","kind":"PodList","items":[`+
			`{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"one"}]}},`+
			`{"metadata":{"name":"b"},"spec":{"containers":[{"name":"c","image":"one"}]}}]}`)
		nextPeriod()
		h.expect(t, 0, "put file a-n one", "put file b-n one")
		write(t, path, "nonsense")
		nextPeriod()
		nextPeriod()
		h.expect(t, 1)
		remove(t, path)
		nextPeriod()
		h.expect(t, 1, "delete file a-n one", "delete file b-n one")
	})
}

// A single manifest that is faulty from the start says nothing: what runs of it
// is not to be stopped.
func TestFaultySingleFileIsNotSynced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods")
	write(t, path, "nonsense")
	watchFiles(t, path, func(t *testing.T, h *heard) { h.expect(t, 1) })
}

func TestTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pods")
	write(t, path, manifest("a", "one")+"# "+strings.Repeat("x", maxManifest))
	watchFiles(t, path, func(t *testing.T, h *heard) {
		if !strings.Contains(h.log.String(), "larger than") {
			t.Errorf("log: %s", h.log.String())
		}
	})
}

// Changes are noticed before the period is over.
func TestNotifications(t *testing.T) {
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single=%t", single), func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "a.yaml")
			path := dir
			if single {
				path = file
			}
			write(t, file, manifest("a", "one"))
			h := newHeard()
			source := NewFile(FileConfig{Path: path, NodeName: "n", Period: time.Hour}, h, h.logger())
			ctx, cancel := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { source.Run(ctx) })
			defer run.Wait()
			defer cancel()
			next := func(want ...string) {
				t.Helper()
				for _, w := range want {
					select {
					case got := <-h.told:
						if got != w {
							t.Fatalf("heard %q, want %q", got, w)
						}
					case <-time.After(30 * time.Second):
						t.Fatalf("%q was not heard in time", w)
					}
				}
			}
			next("put file a-n one", "synced")
			// As an editor saves: another file in the place of the old one.
			write(t, filepath.Join(dir, ".new"), manifest("a", "two"))
			if err := os.Rename(filepath.Join(dir, ".new"), file); err != nil {
				t.Fatal(err)
			}
			next("delete file a-n one", "put file a-n two")
			write(t, file, manifest("a", "three"))
			next("delete file a-n two", "put file a-n three")
			remove(t, file)
			next("delete file a-n three")
		})
	}
}

// site is a web server in memory.
type site struct {
	mu     sync.Mutex
	body   string
	status int
	err    error
	asked  []string
}

func (s *site) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, req.Method+" "+req.URL.String()+" "+req.Header.Get("X-Token"))
	if s.err != nil {
		return nil, s.err
	}
	return &http.Response{StatusCode: s.status, Status: fmt.Sprint(s.status, " as asked"), Request: req,
		Body: io.NopCloser(strings.NewReader(s.body))}, nil
}

func (s *site) set(status int, body string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.err = status, body, err
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newHeard(), &site{err: errors.New("no route")}
		source := NewHTTP(HTTPConfig{URL: "http://me:secret@pods.example/list", Header: http.Header{"X-Token": {"t"}},
			NodeName: "n", Period: period}, h, h.logger())
		source.client.Transport = s
		runBeside(t, source.Run, func() {
			nextPeriod()
			if strings.Contains(h.log.String(), "secret") {
				t.Errorf("the log has the password: %s", h.log.String())
			}
			h.expect(t, 1)
			s.set(200, manifest("a", "one"), nil)
			nextPeriod()
			h.expect(t, 1, "put http a-n one", "synced")
			s.set(500, manifest("b", "one"), nil)
			nextPeriod()
			nextPeriod()
			h.expect(t, 1)
			s.set(200, manifest("b", ""), nil)
			nextPeriod()
			h.expect(t, 1)
			s.set(200, "apiVersion: v1\nkind: PodList\nitems: []", nil)
			nextPeriod()
			h.expect(t, 1, "delete http a-n one")
			s.set(200, manifest("a", "one"), nil)
			nextPeriod()
			h.expect(t, 0, "put http a-n one")
			s.set(200, "", nil)
			nextPeriod()
			h.expect(t, 1, "delete http a-n one")
			if len(s.asked) != 9 || s.asked[0] != "GET http://me:secret@pods.example/list t" {
				t.Errorf("asked %q", s.asked)
			}
		})
	})
}

// mirrors notes the mirror pods.
type mirrors struct{ *heard }

func (m mirrors) Set(p *v1.Pod)     { m.note("mirror " + p.Name) }
func (m mirrors) Deleted(p *v1.Pod) { m.note("mirror deleted " + p.Name) }
func (m mirrors) Synced()           { m.note("mirrors synced") }

func TestAPITellsMirrorsApart(t *testing.T) {
	h := newHeard()
	api := NewAPI(h, mirrors{h}, func(p *v1.Pod) { h.note("seen " + p.Name) })
	p := &v1.Pod{Spec: v1.PodSpec{Containers: []v1.Container{{Image: "i"}}}}
	p.Name = "p"
	m := &v1.Pod{}
	m.Name, m.Annotations = "m", map[string]string{pod.AnnotationMirror: "x"}
	api.PodSet(p)
	api.PodSet(m)
	api.PodsSynced()
	api.PodDeleted(p)
	api.PodDeleted(m)
	h.expect(t, 0, "seen p", "put api p i", "mirror m", "seen m", "mirrors synced", "synced", "delete api p i", "mirror deleted m")
}
