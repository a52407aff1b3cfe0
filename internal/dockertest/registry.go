package dockertest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/crypto/bcrypt"
)

// PrivateRegistry is Debian's docker-registry (the distribution project's) on
// loopback, which serves nobody without its user name and password.
type PrivateRegistry struct {
	// Host is host and port.
	Host               string
	Username, Password string
}

// NewPrivateRegistry starts a registry for the time of a test.
func NewPrivateRegistry(t testing.TB, username, password string) *PrivateRegistry {
	t.Helper()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "%s:%s\n", username, hash), 0o600))
	config := fmt.Sprintf(`{version: 0.1, log: {level: info, accesslog: {disabled: true}},
		storage: {filesystem: {rootdirectory: %q}}, http: {addr: "127.0.0.1:0"},
		auth: {htpasswd: {realm: test, path: %q}}}`, filepath.Join(dir, "data"), filepath.Join(dir, "htpasswd"))
	file := filepath.Join(dir, "config.yml")
	must(t, os.WriteFile(file, []byte(config), 0o600))
	command := exec.Command("docker-registry", "serve", file)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	logs, err := command.StderrPipe()
	must(t, err)
	must(t, command.Start())
	read := make(chan struct{})
	t.Cleanup(func() {
		_ = command.Process.Kill()
		<-read
		_ = command.Wait()
	})
	host, tail := make(chan string, 1), ""
	go func() {
		defer close(read)
		defer close(host)
		listening := regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)
		for lines := bufio.NewScanner(logs); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				host <- m[1]
				_, _ = io.Copy(io.Discard, logs)
				return
			}
			tail += lines.Text() + "\n"
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case h, ok := <-host:
		if !ok {
			t.Fatalf("docker-registry ended: %s", tail)
		}
		return &PrivateRegistry{Host: h, Username: username, Password: password}
	case <-ctx.Done():
		t.Fatal("docker-registry does not listen within a minute")
	}
	return nil
}

// Push puts the test image there, made another by a label, and returns its
// reference and that by digest.
func (r *PrivateRegistry) Push(t testing.TB, repository, tag string) (tagged, digested string) {
	t.Helper()
	ref, err := name.NewTag(r.Host + "/" + repository + ":" + tag)
	must(t, err)
	image := Image(t)
	config, err := image.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.Config.Labels = map[string]string{"reference": ref.Name()}
	image, err = mutate.ConfigFile(image, config)
	must(t, err)
	must(t, remote.Write(ref, image, remote.WithAuth(&authn.Basic{Username: r.Username, Password: r.Password})))
	digest, err := image.Digest()
	must(t, err)
	return ref.Name(), ref.Context().Name() + "@" + digest.String()
}

// DockerConfig is a Docker config.json with the registry's credentials.
func (r *PrivateRegistry) DockerConfig() string {
	return fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, r.Host, r.Username, r.Password)
}
