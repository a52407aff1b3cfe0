package registrytest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"nodelet/internal/imagebuild"
)

var files = imagebuild.Spec{Config: ocispec.ImageConfig{Entrypoint: []string{"/app"}},
	Files: []imagebuild.File{{Path: "/app", Data: []byte("program")}}}

// get asks the registry for a path below /v2/, with a header Authorization
// unless it is empty.
func get(t *testing.T, r *Registry, path, authorization string) (int, http.Header, []byte) {
	t.Helper()
	request, _ := http.NewRequest(http.MethodGet, "http://"+r.Host+path, nil)
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, nil
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body
}

func basic(userAndPassword string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userAndPassword))
}

// TestPull fetches an image piece by piece, as an engine does.
func TestPull(t *testing.T) {
	r := New(t, Options{})
	tagged, digested := r.Push("team/app:1", files)
	if tagged != r.Host+"/team/app:1" || !strings.HasPrefix(r.Host, "127.0.0.1:") {
		t.Errorf("the reference is %s", tagged)
	}
	status, header, body := get(t, r, "/v2/team/app/manifests/1", "")
	if status != 200 || header.Get("Content-Type") != ocispec.MediaTypeImageManifest ||
		digested != r.Host+"/team/app@"+digest.FromBytes(body).String() {
		t.Fatalf("%d %v: %s; digest %s", status, header, body, digested)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	image, _ := imagebuild.Build(files)
	for want, d := range map[string]ocispec.Descriptor{
		string(image.Config()): manifest.Config, string(image.Layer()): manifest.Layers[0],
	} {
		if _, _, got := get(t, r, "/v2/team/app/blobs/"+d.Digest.String(), ""); string(got) != want || d.Size != int64(len(want)) {
			t.Errorf("blob %+v is %d bytes", d, len(got))
		}
	}
	if status, _, _ := get(t, r, "/v2/team/app/manifests/2", ""); status != 404 {
		t.Errorf("a missing tag: %d", status)
	}
	if _, again := r.Push("team/app", files); again != digested {
		t.Errorf("the same image has the digests %s and %s", digested, again)
	}
	if status, _, _ := get(t, r, "/v2/team/app/manifests/latest", ""); status != 200 {
		t.Errorf("pushed without a tag: %d", status)
	}
	if status, _, _ := get(t, r, "/v2/other/manifests/1", ""); status != 404 {
		t.Errorf("a missing repository: %d", status)
	}
	want := Stats{Requests: 6, Manifests: 4, Blobs: 2, MaxConcurrent: 1}
	if got := r.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestBasic(t *testing.T) {
	r := New(t, Options{Username: "me", Password: "secret"})
	r.Push("app:1", files)
	for authorization, want := range map[string]int{
		"": 401, basic("me:wrong"): 401, basic("you:secret"): 401, basic("me:secret"): 200, "Bearer " + token: 401,
	} {
		for _, path := range []string{"/v2/", "/v2/app/manifests/1"} {
			status, header, _ := get(t, r, path, authorization)
			if status != want || (header.Get("WWW-Authenticate") == `Basic realm="registrytest"`) != (want == 401) {
				t.Errorf("%s as %q: %d %v, want %d", path, authorization, status, header, want)
			}
		}
	}
	if s := r.Stats(); s.Unauthorized != 8 || s.Requests != 10 || s.Manifests != 1 {
		t.Errorf("%+v", s)
	}
}

func TestBearer(t *testing.T) {
	r := New(t, Options{Username: "me", Password: "secret", IdentityToken: "id", Bearer: true})
	r.Push("team/app:1", files)
	path := "/v2/team/app/manifests/1"
	want := `Bearer realm="http://` + r.Host + `/token",service="registrytest",scope="repository:team/app:pull"`
	for _, authorization := range []string{"", basic("me:secret"), "Bearer other"} {
		if status, header, _ := get(t, r, path, authorization); status != 401 || header.Get("WWW-Authenticate") != want {
			t.Errorf("as %q: %d %v", authorization, status, header)
		}
	}
	for authorization, want := range map[string]int{"": 401, basic("me:wrong"): 401, basic("me:secret"): 200} {
		status, _, body := get(t, r, "/token", authorization)
		var answer struct{ Token string }
		if err := json.Unmarshal(body, &answer); err != nil || status != want {
			t.Fatalf("a token for %q: %d %s", authorization, status, body)
		}
		if want == 200 {
			if status, _, _ := get(t, r, path, "Bearer "+answer.Token); status != 200 {
				t.Errorf("with the token: %d", status)
			}
		}
	}
	for _, test := range []struct {
		form url.Values
		want int
	}{
		{url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"id"}}, 200},
		{url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"other"}}, 401},
		{url.Values{"grant_type": {"refresh_token"}}, 401},
		{url.Values{"grant_type": {"password"}, "username": {"me"}, "password": {"secret"}}, 200},
		{url.Values{"grant_type": {"password"}, "username": {"me"}, "password": {"wrong"}}, 401},
	} {
		response, err := http.PostForm("http://"+r.Host+"/token", test.form)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != test.want {
			t.Errorf("a token for %v: %d, want %d", test.form, response.StatusCode, test.want)
		}
	}
}

// TestIdentityTokenOnly: an empty password is not one that anybody has.
func TestIdentityTokenOnly(t *testing.T) {
	r := New(t, Options{IdentityToken: "id", Bearer: true})
	for _, path := range []string{"/v2/", "/token"} {
		if status, _, _ := get(t, r, path, basic(":")); status != 401 {
			t.Errorf("%s: %d", path, status)
		}
	}
}

// TestNoIdentityToken: where there is none, an empty one is wrong.
func TestNoIdentityToken(t *testing.T) {
	r := New(t, Options{Username: "me", Bearer: true})
	response, err := http.PostForm("http://"+r.Host+"/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {""}})
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 401 {
		t.Errorf("a token for nothing: %d", response.StatusCode)
	}
}

func TestFaults(t *testing.T) {
	r := New(t, Options{})
	r.Push("app:1", files)
	path := "/v2/app/manifests/1"
	for _, test := range []struct {
		fault Fault
		want  int
	}{{Fault{Status: 503}, 503}, {Fault{Cut: true}, 0}, {Fault{Delay: time.Millisecond}, 200}, {Fault{}, 200}} {
		r.SetFault(func(request *http.Request) Fault {
			if request.URL.Path != path {
				t.Errorf("asked about %s", request.URL)
			}
			return test.fault
		})
		if status, _, _ := get(t, r, path, ""); status != test.want {
			t.Errorf("with %+v: %d, want %d", test.fault, status, test.want)
		}
	}
	r.SetFault(nil)
	if status, _, _ := get(t, r, path, ""); status != 200 {
		t.Errorf("after all faults: %d", status)
	}
	if s := r.Stats(); s.Manifests != 3 {
		t.Errorf("%+v", s)
	}
}

// TestConcurrent: requests for one repository count once, and a test may end
// while some are delayed.
func TestConcurrent(t *testing.T) {
	var clients sync.WaitGroup
	defer clients.Wait()
	t.Run("registry", func(t *testing.T) {
		r := New(t, Options{})
		r.SetFault(func(*http.Request) Fault { return Fault{Delay: time.Hour} })
		for _, path := range []string{"a/manifests/1", "a/manifests/2", "b/manifests/1", "c/blobs/x", ""} {
			clients.Go(func() { get(t, r, "/v2/"+path, "") })
		}
		for end := time.Now().Add(10 * time.Second); r.Stats().Requests < 5; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("not all requests came")
			}
		}
		if s := r.Stats(); s.MaxConcurrent != 3 || s.Manifests != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestGoProgram(t *testing.T) {
	program := GoProgram(t, `package main; import "os"; func main() { os.Exit(7) }`)
	name := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(name, program, 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(name)
	_ = command.Run()
	if code := command.ProcessState.ExitCode(); code != 7 {
		t.Errorf("it ended with %d", code)
	}
}
