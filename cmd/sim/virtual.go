package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"nodelet/internal/playback"
	"nodelet/scenarios"
	"nodelet/simcluster"
)

// Virtual time needs a build of its own, with the faketime tag: there the Go
// runtime's clock jumps to the next timer whenever every goroutine is blocked.
// sim runs that build as a child process for each scenario, and is told how it
// gets on through the child's standard output (wire.go).

// virtualBinary is the name of that build, beside this one.
const virtualBinary = "sim-virtual"

// defaultStart is when virtual time begins unless the scenario says so: always
// the same, so that runs can be compared.
var defaultStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// findVirtual returns the path of the build for virtual time.
func findVirtual() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program's own file: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), virtualBinary)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("virtual time needs the build %s in the folder of this one: make virtual makes it; or add --time real", virtualBinary)
	}
	return path, nil
}

// playVirtual plays a scenario in virtual time.
func playVirtual(ctx context.Context, s *scenarios.Scenario, p playing, log *slog.Logger, show *display) (*scenarios.Result, error) {
	binary, err := findVirtual()
	if err != nil {
		return nil, exit(exitInput, err)
	}
	dir, err := simcluster.TempDir()
	if err != nil {
		return nil, exit(exitCluster, err)
	}
	// The child may be killed, so its files are ours to remove.
	defer os.RemoveAll(dir)
	if p.kubeconfig != "" {
		defer os.Remove(p.kubeconfig)
	}
	folder, err := os.Open(dir)
	if err != nil {
		return nil, exit(exitCluster, err)
	}
	defer folder.Close()
	written := p.transcript
	p.dir = filepath.Join(childFolder, "cluster")
	if written != "" {
		p.transcript = filepath.Join(childFolder, "transcript")
	}
	began := time.Now()
	c := &child{scenario: s, show: show, log: log, paced: p.speed > 0 || p.pauseAt != ""}
	cmd := exec.Command(binary, p.childArgs(s, log)...)
	cmd.Env = c.environment()
	cmd.ExtraFiles = []*os.File{folder}
	waitErr := c.run(ctx, cmd)
	switch {
	case ctx.Err() != nil:
		return nil, exit(exitFailed, errInterrupted)
	case c.failure != nil:
		return nil, c.failure
	case c.result == nil:
		return nil, exit(exitCluster, c.crashed(waitErr))
	}
	c.result.Wall = time.Since(began)
	if written != "" {
		if err := copyFile(written, filepath.Join(dir, "transcript")); err != nil {
			return nil, exit(exitInput, fmt.Errorf("writing the transcript: %w", err))
		}
	}
	return c.result, nil
}

// childFolder is the run's folder as the child knows it, by the file that it inherits:
// the same name in each run, for the length and the hash of a name change what a run
// allocates and in which order it walks over maps.
const childFolder = "/proc/self/fd/3"

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(to, func(w io.Writer) error {
		_, err := io.Copy(w, in)
		return err
	})
}

// child is a process that plays a scenario in virtual time.
type child struct {
	scenario *scenarios.Scenario
	show     *display
	log      *slog.Logger
	// paced: the clock is held on purpose.
	paced bool

	// clock is where the child's clock stands, began its first time, both sent by
	// the child before anything else.
	clock uint64
	began time.Time

	result  *scenarios.Result
	failure error
	// stuck is why the child was given up.
	stuck string
	// raw is what the child wrote to its standard error: a crash does.
	raw bytes.Buffer
}

// environment is the child's, the same in each run but for settings of Kubernetes' own.
// One processor, so that goroutines run in the same order in each run; a clock that
// is held in a system call takes a second one.
func (c *child) environment() []string {
	processors := "GOMAXPROCS=1"
	if c.paced {
		processors = "GOMAXPROCS=2"
	}
	// randseednop=0: the seed of upstream's random numbers can be set.
	env := []string{processors, "GOGC=off", "GOMEMLIMIT=" + strconv.Itoa(c.memory()),
		"GODEBUG=randseednop=0", "GOTRACEBACK=all"}
	for _, setting := range os.Environ() {
		if strings.HasPrefix(setting, "KUBE_") || strings.HasPrefix(setting, "NODELET_TRACE=") {
			env = append(env, setting)
		}
	}
	return env
}

// memory is how much the child may take before it collects garbage, in bytes. Most
// scenarios end before that.
func (c *child) memory() int {
	const base, perNode = 2 << 30, 4 << 20
	nodes := 0
	for _, g := range c.scenario.Nodes {
		nodes += g.Count
	}
	return base + nodes*perNode
}

// run runs the process to its end; it dies with ctx, and with this process.
func (c *child) run(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends. The
		// thread is not used for anything else, and ends with this goroutine.
		runtime.LockOSThread()
		if !c.paced {
			// A network of its own, for etcd looks at the machine's routes when it
			// starts. Whoever may not have one has runs that depend on these.
			_ = syscall.Unshare(syscall.CLONE_NEWNET)
		}
		ended <- c.runHere(ctx, cmd)
	}()
	return <-ended
}

func (c *child) runHere(ctx context.Context, cmd *exec.Cmd) error {
	// In a process group of its own, the child cannot read the terminal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if c.paced {
		go func() { _, _ = io.Copy(stdin, os.Stdin); stdin.Close() }()
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	var reading, watching sync.WaitGroup
	done := make(chan struct{})
	reading.Go(func() { c.readRaw(stderr) })
	reading.Go(func() {
		in := playback.NewReader(stdout)
		c.readClock(in)
		if watch, err := watchClock(cmd.Process.Pid, c.clock); err == nil && c.clock != 0 {
			watching.Go(func() { c.watch(watch, done) })
		}
		c.readMessages(in)
		// Nothing is to come after a result, and its data is ours to remove.
		if c.stuck == "" {
			_ = cmd.Process.Kill()
		}
	})
	reading.Wait()
	close(done)
	watching.Wait()
	return cmd.Wait()
}

// readClock reads the child's first message.
func (c *child) readClock(in *playback.Reader) {
	at, data, err := in.Next()
	var m message
	if err == nil && json.Unmarshal(data, &m) == nil {
		c.began, c.clock = at, m.Clock
	}
}

func (c *child) readMessages(in *playback.Reader) {
	for {
		at, data, err := in.Next()
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			continue
		}
		c.show.setClock(at.Sub(c.began))
		switch {
		case m.Update != nil:
			u := m.Update.Update
			u.Err = m.Update.Err.error()
			c.show.update(u)
		case m.Result != nil:
			c.result = m.Result.result(c.scenario)
			return
		case m.Failure != "":
			c.failure = exit(m.Code, errors.New(m.Failure))
			return
		case m.Say != "":
			c.show.say(m.Say)
		case m.Line != "":
			c.show.line(m.Line)
		case m.Log != "":
			c.log.Info(m.Log, "virtual", at)
		}
	}
}

// maxRaw bounds what is kept of a crash.
const maxRaw = 64 << 20

// readRaw keeps what the child writes to its standard error: the stacks of a
// crash, in pieces with a time each.
func (c *child) readRaw(r io.Reader) {
	in := playback.NewReader(r)
	for {
		_, data, err := in.Next()
		if c.raw.Len() < maxRaw {
			c.raw.Write(data)
		}
		if err != nil {
			return
		}
	}
}
