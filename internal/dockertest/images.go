package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var program struct {
	once sync.Once
	data []byte
	err  error
}

// Program is the test program, static: see testprog for what it does.
func Program(t testing.TB) []byte {
	t.Helper()
	program.once.Do(func() {
		dir, err := os.MkdirTemp("", "nodelet-testprog-")
		if err != nil {
			program.err = err
			return
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "test")
		build := exec.Command("go", "build", "-ldflags", "-s -w", "-o", out, "./internal/dockertest/testprog")
		build.Dir = Root()
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := build.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("%w: %s", err, output)
			return
		}
		program.data, program.err = os.ReadFile(out)
	})
	if program.err != nil {
		t.Fatalf("building the test program: %v", program.err)
	}
	return program.data
}

// Users are the test image's, in its etc/passwd.
const Users = "root:x:0:0:root:/:/test\nnobody:x:65534:65534:nobody:/:/test\n"

// Image is an image from scratch, of two layers, with the test program as its entry
// point.
func Image(t testing.TB) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image,
		layer(t, "test", Program(t), 0o755), layer(t, "etc/passwd", []byte(Users), 0o644))
	must(t, err)
	config, err := image.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config.Entrypoint = []string{"/test"}
	image, err = mutate.ConfigFile(image, config)
	must(t, err)
	return image
}

// layer has a file, and the directories of the image.
func layer(t testing.TB, name string, data []byte, mode int64) v1.Layer {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, dir := range []string{"tmp", "etc"} {
		must(t, w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o777}))
	}
	must(t, w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}))
	_, err := w.Write(data)
	must(t, err)
	must(t, w.Close())
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil })
	must(t, err)
	return l
}

// Load puts the test image into the engine under a reference.
func (e *Engine) Load(t testing.TB, ref string) {
	t.Helper()
	tag, err := name.NewTag(ref)
	must(t, err)
	var archive bytes.Buffer
	must(t, tarball.Write(tag, Image(t), &archive))
	loaded, err := e.Client.ImageLoad(context.Background(), &archive)
	must(t, err)
	defer loaded.Body.Close()
	_, err = io.Copy(io.Discard, loaded.Body)
	must(t, err)
}

// Registry starts a registry on loopback that has the test image under the
// given names, and returns its host and port.
func Registry(t testing.TB, names ...string) (host string) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	host = strings.TrimPrefix(server.URL, "http://")
	image := Image(t)
	for _, n := range names {
		ref, err := name.ParseReference(host + "/" + n)
		must(t, err)
		must(t, remote.Write(ref, image))
	}
	return host
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
