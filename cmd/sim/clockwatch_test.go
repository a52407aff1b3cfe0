package main

import (
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"nodelet/scenarios"
)

// TestClockWatch: a clock that stands is noticed after the time for an idle process,
// or after that for a busy one.
func TestClockWatch(t *testing.T) {
	clock := new(int64)
	*clock = 1e18
	now := time.Now()
	for _, c := range []struct {
		name      string
		cpu       time.Duration
		stood     time.Duration
		moves     bool
		wantStuck string
	}{
		{"moves", 0, time.Hour, true, ""},
		{"stands for a moment", 0, 9 * time.Second, false, ""},
		{"idle", 0, 11 * time.Second, false, "virtual time has stood for 11s while the process was idle"},
		{"busy", -time.Minute, time.Minute, false, ""},
		{"busy for long", -time.Hour, 4 * time.Minute, false, "virtual time has stood for 4m0s while the process was busy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, err := watchClock(os.Getpid(), uint64(uintptr(unsafe.Pointer(clock))))
			if err != nil {
				t.Fatal(err)
			}
			defer w.mem.Close()
			if at, stuck := w.look(now); at.UnixNano() != *clock || stuck != "" {
				t.Fatalf("the clock is read as %v, %q", at, stuck)
			}
			// As if so much CPU time had been used since.
			w.cpuAtMove += c.cpu
			if c.moves {
				*clock++
			}
			if _, stuck := w.look(now.Add(c.stood)); stuck != c.wantStuck {
				t.Errorf("got %q", stuck)
			}
		})
	}
}

// TestGivenUp: a run that was given up names what holds the clock.
func TestGivenUp(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	c := &child{scenario: &scenarios.Scenario{Name: "passes"}, stuck: "virtual time has stood for 11s while the process was idle"}
	c.raw.WriteString("SIGQUIT: quit\n\ngoroutine 7 [syscall]:\nsyscall.Syscall(0x0, 0x3)\n\t/x.go:1\nexample.com/x.read(0x3)\n\t/x.go:2\ncreated by example.com/x.New in goroutine 1\n")
	got := c.crashed(os.ErrClosed).Error()
	for _, want := range []string{"passes was given up: virtual time has stood for 11s",
		"\n  the clock is held by goroutine 7 [syscall] in example.com/x.read, started by example.com/x.New; what it wrote is in "} {
		if !strings.Contains(got, want) {
			t.Errorf("without %q:\n%s", want, got)
		}
	}
}
