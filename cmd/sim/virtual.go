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
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

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
		return "", fmt.Errorf("virtual time needs the build %s in the folder of this one: make virtual makes it", virtualBinary)
	}
	return path, nil
}

// playVirtual plays a scenario in virtual time.
func playVirtual(ctx context.Context, s *scenarios.Scenario, log *slog.Logger, show *display) (*scenarios.Result, error) {
	binary, err := findVirtual()
	if err != nil {
		return nil, exit(exitInput, err)
	}
	dir, err := simcluster.TempDir()
	if err != nil {
		return nil, exit(exitCluster, err)
	}
	// The child may be killed, so its data is ours to remove.
	defer os.RemoveAll(dir)
	began := time.Now()
	verbose := log.Enabled(ctx, slog.LevelInfo)
	c := &child{scenario: s, show: show, log: log}
	waitErr := c.run(ctx, exec.Command(binary, "play", s.File, "--pick", s.Name, "--dir", filepath.Join(dir, "cluster"),
		"--seed", strconv.FormatUint(s.Seed, 10), "--api-load", s.APILoad, "--verbose="+strconv.FormatBool(verbose)))
	switch {
	case ctx.Err() != nil:
		return nil, exit(exitFailed, errInterrupted)
	case c.failure != nil:
		return nil, c.failure
	case c.result == nil:
		return nil, exit(exitCluster, c.crashed(waitErr))
	}
	c.result.Wall = time.Since(began)
	return c.result, nil
}

// child is a process that plays a scenario in virtual time.
type child struct {
	scenario *scenarios.Scenario
	show     *display
	log      *slog.Logger

	result  *scenarios.Result
	failure error
	// raw is what the child wrote without a time: a crash does.
	raw bytes.Buffer
}

// run runs the process to its end; it dies with ctx, and with this process.
func (c *child) run(ctx context.Context, cmd *exec.Cmd) error {
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
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
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	var reading sync.WaitGroup
	reading.Go(func() {
		c.readMessages(stdout)
		// Nothing is to come after a result, and its data is ours to remove.
		_ = cmd.Process.Kill()
	})
	reading.Go(func() { c.readLogs(stderr) })
	reading.Wait()
	return cmd.Wait()
}

func (c *child) readMessages(r io.Reader) {
	in := playback.NewReader(r)
	var began time.Time
	for {
		at, data, err := in.Next()
		if err != nil {
			return
		}
		if began.IsZero() {
			began = at
		}
		var m message
		if err := json.Unmarshal(data, &m); err != nil {
			c.raw.Write(data)
			continue
		}
		c.show.setClock(at.Sub(began))
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
		}
	}
}

func (c *child) readLogs(r io.Reader) {
	in := playback.NewReader(r)
	for {
		at, data, err := in.Next()
		switch {
		case err != nil:
			return
		case at.IsZero():
			c.raw.Write(data)
		default:
			c.log.Info(string(bytes.TrimSpace(data)), "virtual", at)
		}
	}
}

// crashed says how the child ended without a result, and keeps what it wrote.
func (c *child) crashed(err error) error {
	if c.raw.Len() == 0 {
		return fmt.Errorf("the process that played %s ended without a result: %w", c.scenario.Name, err)
	}
	file, createErr := os.CreateTemp("", "sim-virtual-*.log")
	if createErr != nil {
		return fmt.Errorf("the process that played %s crashed (%w) and its output cannot be kept: %w", c.scenario.Name, err, createErr)
	}
	_, writeErr := file.Write(c.raw.Bytes())
	if err := errors.Join(writeErr, file.Close()); err != nil {
		return fmt.Errorf("keeping the output of a crash: %w", err)
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(c.raw.Bytes()), []byte("\n"))
	return fmt.Errorf("the process that played %s crashed (%w): %s; all of it is in %s", c.scenario.Name, err, first, file.Name())
}

// playCommand is the child's side. It is not for people.
func playCommand(stdout, stderr io.Writer) *cobra.Command {
	var o playOptions
	cmd := &cobra.Command{
		Use:    "play FILE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := newWire(stdout)
			result, err := o.play(cmd.Context(), args[0], w, stderr)
			if err != nil {
				code := exitCluster
				var e *exitError
				if errors.As(err, &e) {
					code = e.code
				}
				w.send(message{Failure: err.Error(), Code: code})
				return exit(code, errTold)
			}
			w.send(message{Result: resultToWire(result)})
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.pick, "pick", "", "name of the scenario")
	flags.StringVar(&o.dir, "dir", "", "data directory")
	flags.Uint64Var(&o.seed, "seed", 0, "seed")
	flags.StringVar(&o.apiLoad, "api-load", "", "API load")
	flags.BoolVar(&o.verbose, "verbose", false, "log")
	return cmd
}

// playOptions are the child's flags.
type playOptions struct {
	pick, dir, apiLoad string
	seed               uint64
	verbose            bool
}

func (o *playOptions) play(ctx context.Context, file string, w *wire, stderr io.Writer) (*scenarios.Result, error) {
	all, err := scenarios.Load(file)
	if err != nil {
		return nil, exit(exitInput, err)
	}
	for _, s := range all {
		if s.Name != o.pick {
			continue
		}
		s.Time, s.Seed, s.APILoad = scenarios.VirtualTime, o.seed, o.apiLoad
		start := defaultStart
		if s.Start != "" {
			// Load has checked it.
			start, _ = time.Parse(time.RFC3339, s.Start)
		}
		if virtualBuild {
			// The clock begins in 2009; nothing runs yet, so this is one jump.
			time.Sleep(time.Until(start))
		}
		log, closeLog, err := (&logFlags{verbose: o.verbose}).open(stderr)
		if err != nil {
			return nil, err
		}
		defer closeLog()
		return play(ctx, s, simcluster.Options{Dir: o.dir, Logger: log}, "", w)
	}
	return nil, exit(exitInput, fmt.Errorf("%s: has no scenario named %q", file, o.pick))
}
