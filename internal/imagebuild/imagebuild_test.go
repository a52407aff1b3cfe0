package imagebuild

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func spec() Spec {
	return Spec{
		Architecture: "arm64",
		Config: ocispec.ImageConfig{Entrypoint: []string{"/bin/app"}, Cmd: []string{"run"}, Env: []string{"A=1"}, User: "7:8",
			WorkingDir: "/data", Labels: map[string]string{"b": "2", "a": "1"}},
		Files: []File{
			{Path: "/etc/app/conf", Mode: 0o640, Data: []byte("conf")},
			{Path: "/bin/app", Data: []byte("program")},
			{Path: "/etc/empty"},
		},
	}
}

// read lists a tar's entries and returns the content of its files.
func read(t *testing.T, archive []byte) (list string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	var lines []string
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return strings.Join(lines, "\n"), files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s is of %v and of user %d", h.Name, h.ModTime, h.Uid)
		}
		lines = append(lines, fmt.Sprintf("%c %o %s", h.Typeflag, h.Mode, h.Name))
		files[h.Name], _ = io.ReadAll(r)
	}
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func TestArchive(t *testing.T) {
	image, err := Build(spec())
	if err != nil {
		t.Fatal(err)
	}
	archive, err := image.Archive("example.com/app:1", "example.com/app:2")
	if err != nil {
		t.Fatal(err)
	}
	_, outer := read(t, archive)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(outer["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		t.Fatalf("manifest %s: %v", outer["manifest.json"], err)
	}
	m := manifest[0]
	config, layer := outer[m.Config], outer[m.Layers[0]]
	if !slices.Equal(m.RepoTags, []string{"example.com/app:1", "example.com/app:2"}) || len(m.Layers) != 1 ||
		image.ID != "sha256:"+sum(config) || m.Config != sum(config)+".json" {
		t.Errorf("manifest %+v of image %s", m, image.ID)
	}
	want := `{"created":"1970-01-01T00:00:00Z","architecture":"arm64","os":"linux",` +
		`"config":{"User":"7:8","Env":["A=1"],"Entrypoint":["/bin/app"],"Cmd":["run"],"WorkingDir":"/data","Labels":{"a":"1","b":"2"}},` +
		`"rootfs":{"type":"layers","diff_ids":["sha256:` + sum(layer) + `"]},` +
		`"history":[{"created":"1970-01-01T00:00:00Z","created_by":"nodelet"}]}`
	if string(config) != want {
		t.Errorf("config\n%s\nwant\n%s", config, want)
	}
	list, files := read(t, layer)
	wantList := "5 755 bin/\n0 755 bin/app\n5 755 etc/\n5 755 etc/app/\n0 640 etc/app/conf\n0 755 etc/empty"
	if list != wantList || string(files["bin/app"]) != "program" {
		t.Errorf("the layer holds\n%s\nwant\n%s", list, wantList)
	}
}

func TestSameInputSameImage(t *testing.T) {
	first, _ := Build(spec())
	other := spec()
	slices.Reverse(other.Files)
	second, _ := Build(other)
	a, _ := first.Archive("a:1")
	b, _ := second.Archive("a:1")
	if first.ID != second.ID || !bytes.Equal(a, b) {
		t.Errorf("%s and %s", first.ID, second.ID)
	}
	if other.Files[0].Path != "/etc/empty" {
		t.Error("Build sorted its caller's files")
	}
	for name, change := range map[string]func(*Spec){
		"content":      func(s *Spec) { s.Files[0].Data = []byte("other") },
		"mode":         func(s *Spec) { s.Files[0].Mode = 0o600 },
		"config":       func(s *Spec) { s.Config.User = "" },
		"architecture": func(s *Spec) { s.Architecture = "amd64" },
	} {
		s := spec()
		change(&s)
		if changed, err := Build(s); err != nil || changed.ID == first.ID {
			t.Errorf("another %s: the same ID (%v)", name, err)
		}
	}
}

func TestBadPaths(t *testing.T) {
	for _, paths := range [][]string{{""}, {"app"}, {"/"}, {"/bin/"}, {"/../app"}, {"/a//b"}, {"/a", "/a"}, {"/a", "/a/b"}, {"/a/b/c", "/a"}} {
		var s Spec
		for _, p := range paths {
			s.Files = append(s.Files, File{Path: p})
		}
		if _, err := Build(s); err == nil {
			t.Errorf("no error for %q", paths)
		}
	}
	if _, err := Build(Spec{}); err != nil {
		t.Errorf("an image without files: %v", err)
	}
}
