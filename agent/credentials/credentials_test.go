package credentials

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"nodelet/agent/podruntime"
)

// users are whose credentials a keyring has for an image, in order.
func users(k Keyring, image string) string {
	var names []string
	for _, auth := range k.Lookup(image) {
		names = append(names, auth.Username)
	}
	return strings.Join(names, " ")
}

// keyringOf has a credential for each registry, whose user is the registry's
// own name.
func keyringOf(registries ...string) Keyring {
	config := Config{}
	for _, r := range registries {
		config[r] = podruntime.Auth{Username: r, Password: "secret"}
	}
	return New(config)
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		registry, image string
		want            bool
	}{
		{"example.com", "example.com/app", true},
		{"example.com", "example.com/team/app:1", true},
		{"example.com", "other.com/app", false},
		{"example.com", "example.com:5000/app", false},
		{"example.com:5000", "example.com:5000/app", true},
		{"example.com:5000", "example.com/app", false},
		{"127.0.0.1:5000", "127.0.0.1:5000/app", true},
		{"[::1]:5000", "[::1]:5000/app", true},
		{"[::1]", "[::1]/app", true},
		{"[::1]", "[::2]/app", false},
		{"[::1]", "[::1]:5000/app", false},
		// Schemes and versions of the API.
		{"https://example.com", "example.com/app", true},
		{"http://example.com", "example.com/app", true},
		{"https://example.com/", "example.com/app", true},
		{"https://example.com/v1/", "example.com/app", true},
		{"https://example.com/v2/", "example.com/app", true},
		{"https://example.com/v2/team", "example.com/team/app", true},
		{"https://example.com/v2/team", "example.com/app", false},
		{"https://example.com/v3/", "example.com/app", false},
		// Paths are prefixes.
		{"example.com/team", "example.com/team/app", true},
		{"example.com/team", "example.com/team", true},
		{"example.com/team", "example.com/app", false},
		{"example.com/team/", "example.com/team/app", true},
		{"example.com/team/", "example.com/teammate/app", false},
		{"example.com/a", "example.com/b/a", false},
		// Globs stand for labels of the host, each for one.
		{"*.example.com", "a.example.com/app", true},
		{"*.example.com", "example.com/app", false},
		{"*.example.com", "a.b.example.com/app", false},
		{"*.*.example.com", "a.b.example.com/app", true},
		{"*.*.example.com", "a.example.com/app", false},
		{"a.*.com", "a.example.com/app", true},
		{"a.example.*", "a.example.org/app", true},
		{"*-eu.example.com", "a-eu.example.com/app", true},
		{"*-eu.example.com", "a-us.example.com/app", false},
		{"k*.io", "quay.io/app", false},
		{"*.example.com:5000/team", "a.example.com:5000/team/app", true},
		{"*.example.com:5000/team", "a.example.com:6000/team/app", false},
		{"*.example.com/team", "a.example.com:5000/team/app", false},
		{"*", "localhost/app", true},
		{"*", "example.com/app", false},
		{"example.com/*", "example.com/app", false},
		// Docker Hub has many names.
		{"https://index.docker.io/v1/", "nginx", true},
		{"https://index.docker.io/v1/", "me/app", true},
		{"https://index.docker.io/v1/", "docker.io/me/app", true},
		{"https://index.docker.io/v1/", "index.docker.io/me/app", true},
		{"https://index.docker.io/v1/", "example.com/me/app", false},
		{"index.docker.io", "nginx:1", true},
		{"docker.io", "nginx", true},
		{"docker.io/library", "nginx", true},
		{"docker.io/me", "nginx", false},
		{"docker.io/me", "me/app", true},
		{"hub.docker.io", "nginx", false},
		{"nginx", "nginx", false},
		// What is no name of a registry, and what is no image.
		{"", "nginx", false},
		{"https://", "nginx", false},
		{"exa mple.com", "example.com/app", false},
		{"[", "example.com/app", false},
		{"example.com", "example.com/App", false},
		{"example.com", "", false},
		{"example.com", "https://example.com/app", false},
	} {
		if got := users(keyringOf(test.registry), test.image) != ""; got != test.want {
			t.Errorf("a credential for %q is one for image %q: %v, want %v", test.registry, test.image, got, test.want)
		}
	}
}

func TestOrder(t *testing.T) {
	k := keyringOf("*.example.com", "a.example.com", "a.example.com/team", "a.example.com/team/app", "b.example.com", "a.*.com")
	for image, want := range map[string]string{
		"a.example.com/team/app": "a.example.com/team/app a.example.com/team a.example.com a.*.com *.example.com",
		"a.example.com/other":    "a.example.com a.*.com *.example.com",
		"b.example.com/team/app": "b.example.com *.example.com",
		"c.example.com/team/app": "*.example.com",
		"example.com/app":        "",
	} {
		if got := users(k, image); got != want {
			t.Errorf("for %s: %q, want %q", image, got, want)
		}
	}
	// Several names of one registry, and several configurations with one name.
	for range 20 {
		k := New(
			Config{"example.com": {Username: "z"}, "https://example.com/v1/": {Username: "y"}, "http://example.com": {Username: "x"}},
			Config{"example.com": {Username: "a"}, "example.com/app": {Username: "b"}})
		if got := users(k, "example.com/app"); got != "b x y z a" {
			t.Fatalf("equal names: %q", got)
		}
	}
}

func TestThen(t *testing.T) {
	first, second, third := keyringOf("example.com"), keyringOf("example.com/app"), keyringOf("*.com")
	both := first.Then(second)
	for _, test := range []struct {
		k    Keyring
		want string
	}{
		{both, "example.com example.com/app"},
		{both.Then(third), "example.com example.com/app *.com"},
		{both.Then(second), "example.com example.com/app example.com/app"},
		{first, "example.com"},
		{Keyring{}, ""},
		{Keyring{}.Then(third), "*.com"},
	} {
		if got := users(test.k, "example.com/app"); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// TestThenLeavesItsReceiver: two keyrings made from one do not share what
// follows.
func TestThenLeavesItsReceiver(t *testing.T) {
	k := Keyring{}.Then(keyringOf("*.com")).Then(keyringOf("*.com")).Then(keyringOf("*.com"))
	first := k.Then(keyringOf("example.com"))
	k.Then(keyringOf("example.*"))
	if got := users(first, "example.com/app"); got != "*.com *.com *.com example.com" {
		t.Errorf("%q", got)
	}
}

func TestLookupGivesTheWholeCredential(t *testing.T) {
	auth := podruntime.Auth{Username: "u", Password: "p", IdentityToken: "t"}
	k := New(Config{"*.example.com:5000": auth, "index.docker.io": auth, "empty.com": {ServerAddress: "x"}})
	for image, server := range map[string]string{
		"a.example.com:5000/app": "a.example.com:5000",
		"nginx":                  "https://index.docker.io/v1/",
	} {
		want := auth
		want.ServerAddress = server
		if got := k.Lookup(image); !slices.Equal(got, []Credential{{Auth: want}}) {
			t.Errorf("for %s: %+v, want %+v", image, got, want)
		}
	}
	if got := k.Lookup("empty.com/app"); got != nil {
		t.Errorf("an empty credential was offered: %+v", got)
	}
}

func TestCredentialTellsItsSecret(t *testing.T) {
	secret := func(name, password string) *v1.Secret {
		return &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID("uid-" + name)}, Type: v1.SecretTypeDockerConfigJson,
			Data: map[string][]byte{v1.DockerConfigJsonKey: []byte(`{"auths":{"example.com":{"username":"u","password":"` + password + `"}}}`)}}
	}
	k, errs := FromSecrets([]*v1.Secret{secret("a", "p"), secret("b", "p"), secret("c", "q")})
	found := k.Then(keyringOf("example.com")).Lookup("example.com/app")
	if len(errs) > 0 || len(found) != 4 || found[3].Secret != nil {
		t.Fatalf("found %+v, %v", found, errs)
	}
	a, b, c := found[0].Secret, found[1].Secret, found[2].Secret
	if a.Name != "a" || a.Namespace != "ns" || a.UID != "uid-a" || len(a.CredentialHash) != 64 || strings.Contains(a.CredentialHash, "p") {
		t.Errorf("the first is from %+v", a)
	}
	if a.CredentialHash != b.CredentialHash || a.CredentialHash == c.CredentialHash {
		t.Errorf("hashes %s, %s and of another credential %s", a.CredentialHash, b.CredentialHash, c.CredentialHash)
	}
}

func TestParse(t *testing.T) {
	basic := podruntime.Auth{Username: "u", Password: "p:w"}
	for _, test := range []struct {
		name, entry string
		want        podruntime.Auth
		err         string
	}{
		{"two fields", `{"username":"u","password":"p:w"}`, basic, ""},
		{"padded", `{"auth":"dTpwOnc="}`, basic, ""},
		{"unpadded", `{"auth":"dTpwOnc"}`, basic, ""},
		{"with white space", `{"auth":" dTpw\nOnc=\n"}`, basic, ""},
		{"auth wins", `{"username":"x","password":"y","auth":"dTpwOnc="}`, basic, ""},
		{"token", `{"auth":"dTo=","identitytoken":"t"}`, podruntime.Auth{Username: "u", IdentityToken: "t"}, ""},
		{"unknown fields", `{"username":"u","password":"p:w","email":"e","more":[1]}`, basic, ""},
		{"nothing", `{}`, podruntime.Auth{}, ""},
		{"null", `null`, podruntime.Auth{}, ""},
		{"not base64", `{"auth":"?secret?"}`, podruntime.Auth{}, `registry "example.com": auth must be base64`},
		{"without colon", `{"auth":"c2VjcmV0"}`, podruntime.Auth{}, `registry "example.com": auth must be base64`},
		{"a number", `{"auth":5}`, podruntime.Auth{}, "unexpected kind of JSON value at byte"},
		{"a string", `"secret"`, podruntime.Auth{}, "unexpected kind of JSON value at byte"},
		{"malformed", `{"secret`, podruntime.Auth{}, "malformed JSON at byte"},
	} {
		t.Run(test.name, func(t *testing.T) {
			auths := fmt.Sprintf(`{"example.com":%s}`, test.entry)
			old, oldErr := ParseConfig([]byte(auths))
			config, err := ParseConfigJSON(fmt.Appendf(nil, `{"auths":%s,"HttpHeaders":{"a":"b"}}`, auths))
			for _, got := range []struct {
				Config
				error
			}{{old, oldErr}, {config, err}} {
				if test.err != "" {
					if got.error == nil || !strings.Contains(got.Error(), test.err) || strings.Contains(got.Error(), "secret") {
						t.Errorf("error %v, want %s", got.error, test.err)
					}
					continue
				}
				if got.error != nil || len(got.Config) != 1 || got.Config["example.com"] != test.want {
					t.Errorf("%+v, %v; want %+v", got.Config, got.error, test.want)
				}
			}
		})
	}
	for _, empty := range []string{`{}`, `null`, `{"auths":null}`, `{"auths":{}}`, `{"credsStore":"desktop"}`} {
		if config, err := ParseConfigJSON([]byte(empty)); err != nil || len(config) != 0 {
			t.Errorf("%s: %v, %v", empty, config, err)
		}
	}
	if _, err := ParseConfigJSON(nil); err == nil {
		t.Error("an empty file is no configuration")
	}
}

func secret(name string, kind v1.SecretType, key, data string) *v1.Secret {
	return &v1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Type: kind,
		Data: map[string][]byte{key: []byte(data)}}
}

func TestFromSecrets(t *testing.T) {
	k, errs := FromSecrets([]*v1.Secret{
		secret("new", v1.SecretTypeDockerConfigJson, v1.DockerConfigJsonKey, `{"auths":{"example.com":{"username":"new"}}}`),
		secret("opaque", v1.SecretTypeOpaque, v1.DockerConfigJsonKey, `{"auths":{"example.com":{"username":"opaque"}}}`),
		secret("broken", v1.SecretTypeDockerConfigJson, v1.DockerConfigJsonKey, `{"auths":{`),
		secret("bare", v1.SecretTypeDockercfg, v1.DockerConfigJsonKey, `{}`),
		secret("old", v1.SecretTypeDockercfg, v1.DockerConfigKey, `{"example.com":{"username":"old"}}`),
	})
	if got := users(k, "example.com/app"); got != "new old" {
		t.Errorf("credentials of %q", got)
	}
	want := "image pull secret ns/broken: .dockerconfigjson: malformed JSON at byte 10\n" +
		"image pull secret ns/bare: no .dockercfg"
	if got := errors.Join(errs...); got == nil || got.Error() != want {
		t.Errorf("errors:\n%v\nwant:\n%s", got, want)
	}
}

func TestNodeFiles(t *testing.T) {
	got := strings.Join(NodeFiles("/var/lib/kubelet", "/work", "/root"), " ")
	want := "/var/lib/kubelet/config.json /work/config.json /root/.docker/config.json /.docker/config.json " +
		"/var/lib/kubelet/.dockercfg /work/.dockercfg /root/.dockercfg /.dockercfg"
	if got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := strings.Join(NodeFiles("", "", ""), " "); got != "/.docker/config.json /.dockercfg" {
		t.Errorf("with no directories: %s", got)
	}
}

func TestFromFiles(t *testing.T) {
	files := NodeFiles("/var/lib/kubelet", "", "/root")
	for _, test := range []struct {
		name  string
		files map[string]string // a file of "forbidden" cannot be read
		want  string
		errs  int
	}{
		{"none", nil, "", 0},
		{"first wins", map[string]string{
			"/.docker/config.json":      `{"auths":{"example.com":{"username":"root"}}}`,
			"/root/.docker/config.json": `{"auths":{"example.com":{"username":"home"}}}`}, "home", 0},
		{"newer format wins", map[string]string{
			"/var/lib/kubelet/.dockercfg": `{"example.com":{"username":"old"}}`,
			"/.docker/config.json":        `{"auths":{"example.com":{"username":"new"}}}`}, "new", 0},
		{"older format", map[string]string{
			"/var/lib/kubelet/.dockercfg": `{"example.com":{"username":"old"}}`}, "old", 0},
		{"broken ones are passed over", map[string]string{
			"/var/lib/kubelet/config.json": `{`,
			"/root/.docker/config.json":    "forbidden",
			"/root/.dockercfg":             `{"example.com":{"username":"old"}}`}, "old", 2},
		{"one without credentials wins too", map[string]string{
			"/var/lib/kubelet/config.json": `{}`,
			"/.docker/config.json":         `{"auths":{"example.com":{"username":"new"}}}`}, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			k, errs := FromFiles(files, func(name string) ([]byte, error) {
				switch data, ok := test.files[name]; {
				case !ok:
					return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
				case data == "forbidden":
					return nil, fs.ErrPermission
				default:
					return []byte(data), nil
				}
			})
			if got := users(k, "example.com/app"); got != test.want || len(errs) != test.errs {
				t.Errorf("credentials of %q, errors %v", got, errs)
			}
		})
	}
}

// FuzzConfig: what the parsers take makes a keyring that repeats, and errors
// hold nothing of the file but names of registries.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"auths":{"https://*.example.com:5000/v1/":{"auth":"dTpw"}}}`), "a.example.com:5000/app")
	f.Add([]byte(`{"index.docker.io":{"username":"u","password":"p","identitytoken":"t"}}`), "nginx")
	f.Add([]byte(`{"auths":{"[":{"auth":"dTpw"},"[::1]":{"auth":"?"}}}`), "[::1]/app")
	f.Add([]byte(`{"a":1e999}`), "")
	f.Fuzz(func(t *testing.T, data []byte, image string) {
		for _, parse := range []func([]byte) (Config, error){ParseConfig, ParseConfigJSON} {
			config, err := parse(data)
			if err != nil && config != nil {
				t.Fatal("both a configuration and an error")
			}
			first := New(config).Lookup(image)
			if second := New(config).Lookup(image); !slices.Equal(first, second) {
				t.Fatalf("%+v, then %+v", first, second)
			}
			if len(first) > len(config) {
				t.Fatalf("%d credentials out of %d entries", len(first), len(config))
			}
		}
	})
}

// FuzzAuth: every username without a colon and every password come back.
func FuzzAuth(f *testing.F) {
	f.Add("u", "p:w")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, username, password string) {
		if strings.Contains(username, ":") {
			t.Skip()
		}
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
			u, p, ok := parseAuth(encoding.EncodeToString([]byte(username + ":" + password)))
			if !ok || u != username || p != password {
				t.Fatalf("%q:%q became %q:%q, %v", username, password, u, p, ok)
			}
		}
	})
}
