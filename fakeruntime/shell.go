package fakeruntime

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"nodelet/agent/podruntime"
)

// shell knows a few commands: true, false, echo, cat, hostname, sleep SECONDS,
// and sh -c with one of them or exit CODE.
type shell struct {
	podruntime.StreamOptions
	hostname string
	// exited is closed when the container ends.
	exited <-chan struct{}
}

// run returns a command's exit code. An error says that it was cut off.
func (s *shell) run(ctx context.Context, command []string) (int, error) {
	if len(command) == 0 {
		return 0, errors.New("no command given")
	}
	switch args := command[1:]; command[0] {
	case "false":
		return 1, nil
	case "echo":
		return s.print(strings.Join(args, " ") + "\n")
	case "hostname":
		return s.print(s.hostname + "\n")
	case "cat":
		return s.cat(ctx)
	case "sleep":
		return s.sleep(ctx, args)
	case "sh", "/bin/sh":
		if len(args) == 2 && args[0] == "-c" {
			return s.script(ctx, strings.Fields(args[1]))
		}
	}
	return 0, nil
}

func (s *shell) script(ctx context.Context, words []string) (int, error) {
	if len(words) == 2 && words[0] == "exit" {
		if code, err := strconv.ParseUint(words[1], 10, 8); err == nil {
			return int(code), nil
		}
	}
	if len(words) == 0 {
		return 0, nil
	}
	return s.run(ctx, words)
}

func (s *shell) print(text string) (int, error) {
	if s.Stdout == nil {
		return 0, nil
	}
	_, err := io.WriteString(s.Stdout, text)
	return 0, err
}

func (s *shell) cat(ctx context.Context) (int, error) {
	if s.Stdin == nil {
		return 0, nil
	}
	out := s.Stdout
	if out == nil {
		out = io.Discard
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, s.Stdin)
		copied <- err
	}()
	select {
	case err := <-copied:
		return 0, err
	case <-s.exited:
		return exitKilled, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *shell) sleep(ctx context.Context, args []string) (int, error) {
	if len(args) != 1 {
		return 1, nil
	}
	seconds, err := strconv.ParseFloat(args[0], 64)
	if err != nil {
		return 1, nil
	}
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0, nil
	case <-s.exited:
		return exitKilled, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
