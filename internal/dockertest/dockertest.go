// Package dockertest gives tests a Docker Engine of their own, started by
// hack/docker-engine, with images made here and a registry on loopback.
package dockertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// Engine is a running Docker Engine.
type Engine struct {
	// Dir holds everything of the engine; Endpoint is its address.
	Dir, Endpoint string
	// Client speaks to it.
	Client *client.Client
	subnet string
	script *exec.Cmd
	ended  chan struct{}
}

// Start starts an engine in dir whose bridge has the given address, and waits
// until it answers. Stop must be called.
func Start(dir, subnet string) (*Engine, error) {
	e := &Engine{Dir: dir, Endpoint: "unix://" + filepath.Join(dir, "docker.sock"), subnet: subnet}
	var err error
	if e.Client, err = client.NewClientWithOpts(client.WithHost(e.Endpoint), client.WithAPIVersionNegotiation()); err != nil {
		return nil, err
	}
	return e, e.start()
}

func (e *Engine) start() error {
	log, err := os.OpenFile(filepath.Join(e.Dir, "engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	e.script = exec.Command(filepath.Join(Root(), "hack", "docker-engine"), e.Dir, e.subnet)
	e.script.Stdout, e.script.Stderr = log, log
	e.ended = make(chan struct{})
	started := make(chan error)
	go func() {
		// The engine ends with the test, however that ends: the signal comes
		// when the thread that started it does.
		runtime.LockOSThread()
		e.script.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
		err := e.script.Start()
		started <- err
		if err == nil {
			_ = e.script.Wait()
		}
		close(e.ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	return e.waitUp()
}

// waitUp waits until the engine answers.
func (e *Engine) waitUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if _, err := e.Client.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-e.ended:
			return fmt.Errorf("the engine ended: %s", e.logTail())
		case <-ctx.Done():
			return fmt.Errorf("the engine does not answer: %s", e.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Restart ends the engine as a service manager would, its containers with it,
// and starts it again on the same data.
func (e *Engine) Restart() error {
	if err := e.signalEngine(syscall.SIGTERM); err != nil {
		return err
	}
	return e.waitUp()
}

// signalEngine sends a signal to the engine itself; the script starts it anew.
func (e *Engine) signalEngine(s syscall.Signal) error {
	data, err := os.ReadFile(filepath.Join(e.Dir, "docker.pid"))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, s); err != nil {
		return err
	}
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (e *Engine) logTail() string {
	data, err := os.ReadFile(filepath.Join(e.Dir, "engine.log"))
	if err != nil {
		return err.Error()
	}
	const shown = 2000
	return string(data[max(0, len(data)-shown):])
}

// Stop ends the engine with all its containers and removes what it has made.
func (e *Engine) Stop() {
	if e.script == nil || e.script.Process == nil {
		return
	}
	_ = e.script.Process.Signal(syscall.SIGTERM)
	<-e.ended
	_ = e.Client.Close()
}

// Root is the project's directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

var shared struct {
	once   sync.Once
	engine *Engine
	err    error
}

// Required says that a test must not be skipped for want of an engine.
const Required = "NODELET_REQUIRE_DOCKER"

// Shared returns the engine that all tests of this process share. Without
// Docker or root the test is skipped, unless NODELET_REQUIRE_DOCKER is set;
// Main must be the process's TestMain.
func Shared(t testing.TB) *Engine {
	t.Helper()
	if _, err := exec.LookPath("dockerd"); err != nil || os.Geteuid() != 0 {
		if os.Getenv(Required) != "" {
			t.Fatalf("%s is set, but there is no dockerd, or this is not root: %v", Required, err)
		}
		t.Skip("needs dockerd and root")
	}
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "nodelet-docker-")
		if err != nil {
			shared.err = err
			return
		}
		// Each test process has a subnet of its own.
		pid := os.Getpid()
		shared.engine, shared.err = Start(dir, fmt.Sprintf("10.%d.%d.1/24", 100+pid/250%100, pid%250))
	})
	if shared.err != nil {
		t.Fatalf("starting Docker Engine: %v", shared.err)
	}
	return shared.engine
}

// Main runs a test process and stops the shared engine at its end.
func Main(m *testing.M) {
	code := m.Run()
	Stop()
	os.Exit(code)
}

// Stop stops the shared engine, if there is one, and removes what it has left.
func Stop() {
	if e := shared.engine; e != nil {
		e.Stop()
		_ = os.RemoveAll(e.Dir)
	}
}
