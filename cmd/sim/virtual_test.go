package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nodelet/internal/transcript"
	"nodelet/scenarios"
)

// These tests play scenarios with the programs in bin, which `make virtual` builds.
// Without them they are skipped, unless NODELET_REQUIRE_VIRTUAL is set.

// virtualSim returns the path of bin/sim, beside which is the build for virtual time.
func virtualSim(t *testing.T) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sim", virtualBinary} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			if os.Getenv("NODELET_REQUIRE_VIRTUAL") != "" {
				t.Fatalf("%v; make virtual builds it", err)
			}
			t.Skipf("%v; make virtual builds it", err)
		}
	}
	return filepath.Join(bin, "sim")
}

// record plays a scenario and returns its transcript.
func record(t *testing.T, sim, file string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "transcript")
	cmd := exec.CommandContext(t.Context(), sim, append([]string{"run", file, "--transcript", out}, args...)...)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, said)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// diff is the first difference of two transcripts.
func diff(t *testing.T, a, b []byte, tolerance time.Duration) string {
	t.Helper()
	left, err := transcript.Read(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	right, err := transcript.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return transcript.Diff(left, right, tolerance)
}

// TestOneSeed: with one seed all runs are the same, to the millisecond and the node.
func TestOneSeed(t *testing.T) {
	sim := virtualSim(t)
	args := []string{"--seed", "7", "--grain", "1ms", "--places"}
	first := record(t, sim, "testdata/repeat.yaml", args...)
	if n := bytes.Count(first, []byte("\n")); n < 500 {
		t.Fatalf("the transcript has only %d lines", n)
	}
	for range 2 {
		if d := diff(t, first, record(t, sim, "testdata/repeat.yaml", args...), 0); d != "" {
			t.Fatal("runs with one seed differ:\n" + d)
		}
	}
	args[1] = "8"
	if bytes.Equal(first, record(t, sim, "testdata/repeat.yaml", args...)) {
		t.Error("another seed made no difference")
	}
}

// TestRealTime: in real time the same happens at the same time, to the second.
func TestRealTime(t *testing.T) {
	sim := virtualSim(t)
	virtual := record(t, sim, "testdata/short.yaml", "--time", "virtual", "--grain", "1ms")
	real := record(t, sim, "testdata/short.yaml", "--time", "real", "--grain", "1ms")
	if d := diff(t, virtual, real, time.Second); d != "" {
		t.Errorf("virtual (-) and real time (+) differ:\n%s", d)
	}
}

// TestHeldClock: a child in which a goroutine is parked in a system call is given up,
// and the goroutine named.
func TestHeldClock(t *testing.T) {
	virtualSim(t)
	t.Setenv("TMPDIR", t.TempDir())
	held := filepath.Join(t.TempDir(), "held")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "faketime", "-overlay", "../../bin/.faketime/overlay.json",
		"-ldflags", "-checklinkname=0", "-o", held, "./testdata/held")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	c := &child{scenario: &scenarios.Scenario{Name: "held"}, show: newDisplay(io.Discard, "held", false), log: log}
	cmd := exec.CommandContext(ctx, held)
	cmd.Env = c.environment()
	err := c.crashed(c.run(ctx, cmd))
	for _, want := range []string{"held was given up: virtual time has stood for 1", "while the process was idle",
		"the clock is held by goroutine ", "in main.holdTheClock, started by main.main"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}
