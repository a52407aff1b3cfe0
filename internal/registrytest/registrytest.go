// Package registrytest is a container registry on loopback for tests. It is a
// real one that Docker Engine pulls from: Docker speaks plain HTTP with all of
// 127.0.0.0/8. It can ask for credentials, be slow, fail, and count.
package registrytest

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nodelet/internal/imagebuild"
)

// Options say whom a registry serves. The zero value is everybody.
type Options struct {
	// Username and Password are asked for unless both are empty.
	Username, Password string
	// IdentityToken is taken in place of them by the token service, so it needs
	// Bearer.
	IdentityToken string
	// Bearer has the registry ask for a token that a token service, at /token,
	// gives for the credentials; without it, it asks for them itself.
	Bearer bool
}

// Fault is what happens to a request instead of, or before, being served.
type Fault struct {
	// Delay comes first; it ends early when the client goes away.
	Delay time.Duration
	// Status other than 0 is answered, with an error document.
	Status int
	// Cut breaks the connection without an answer.
	Cut bool
}

// Stats are counts since the registry was made.
type Stats struct {
	// Requests are all requests but those of Push; Unauthorized those of them
	// that were refused, or told to authenticate first.
	Requests, Unauthorized int
	// Manifests and Blobs are the GETs of them that were let through. Docker
	// finds out a tag's digest by HEAD and does not fetch what it still has.
	Manifests, Blobs int
	// MaxConcurrent is the largest number of repositories from which something
	// was fetched at one time. Since a pull is idle between its requests, give
	// them a Delay to have it be the number of pulls.
	MaxConcurrent int
}

// Registry is a running registry. Its methods may be called concurrently.
type Registry struct {
	// Host is its address, 127.0.0.1:<port>: the first part of references.
	Host string

	t       testing.TB
	options Options
	storage http.Handler

	mu       sync.Mutex
	fault    func(*http.Request) Fault
	stats    Stats
	inFlight map[string]int // requests by repository
}

// New starts a registry that ends with the test.
func New(t testing.TB, options Options) *Registry {
	t.Helper()
	r := &Registry{t: t, options: options, inFlight: map[string]int{},
		storage: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	r.Host = server.Listener.Addr().String()
	return r
}

// Push makes an image and puts it into the registry under name, such as
// "team/app:1". It returns the references by tag and by digest. Faults and
// credentials do not concern it. The test fails if the image cannot be made.
func (r *Registry) Push(name string, spec imagebuild.Spec) (tagged, digested string) {
	r.t.Helper()
	image, err := imagebuild.Build(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	repository, tag, ok := strings.Cut(name, ":")
	if !ok {
		tag = "latest"
	}
	blob := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		r.store(http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", data)
		return d
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    blob(ocispec.MediaTypeImageConfig, image.Config()),
		Layers:    []ocispec.Descriptor{blob(ocispec.MediaTypeImageLayer, image.Layer())},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.store(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, ocispec.MediaTypeImageManifest, manifest)
	repository = r.Host + "/" + repository
	return repository + ":" + tag, repository + "@" + digest.FromBytes(manifest).String()
}

func (r *Registry) store(method, path, mediaType string, data []byte) {
	r.t.Helper()
	request := httptest.NewRequest(method, path, bytes.NewReader(data))
	request.Header.Set("Content-Type", mediaType)
	answer := httptest.NewRecorder()
	r.storage.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		r.t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
	}
}

// SetFault has fault decide about each request from now on; nil ends that. It
// may be called for many requests at once.
func (r *Registry) SetFault(fault func(*http.Request) Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Stats returns the counts up to now.
func (r *Registry) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// GoProgram builds a static program from the source of a package main, to be
// put into an image.
func GoProgram(t testing.TB, source string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", "program", "main.go")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=", "GO111MODULE=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building a program: %v\n%s", err, output)
	}
	program, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}
