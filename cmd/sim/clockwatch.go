package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"nodelet/internal/playback"
)

// clockWatch looks at a child's virtual clock, in the child's memory, and finds
// out when it does not move any more.
type clockWatch struct {
	pid int
	mem *os.File
	// address is where the clock stands.
	address int64
	// idleFor and busyFor are for how long the clock may stand while the process
	// does nothing, and while it works: there it may be busy with a moment in
	// which much happens.
	idleFor, busyFor time.Duration

	last      int64
	moved     time.Time
	cpuAtMove time.Duration
}

const (
	clockEvery      = 500 * time.Millisecond
	clockIdleFor    = 10 * time.Second
	clockBusyFor    = 3 * time.Minute
	clockIdleShare  = 0.1
	ticksPerSecond  = 100
	afterDumpWithin = 30 * time.Second
)

// watchClock opens the watch; the parent of a process may read its memory.
func watchClock(pid int, address uint64) (*clockWatch, error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	return &clockWatch{pid: pid, mem: mem, address: int64(address), idleFor: clockIdleFor, busyFor: clockBusyFor, moved: time.Now()}, nil
}

// look reads the clock. stuck says why the run cannot go on, or is empty.
func (w *clockWatch) look(now time.Time) (clock time.Time, stuck string) {
	var b [8]byte
	if _, err := w.mem.ReadAt(b[:], w.address); err != nil {
		// The process is about to end.
		return time.Time{}, ""
	}
	ns := int64(binary.NativeEndian.Uint64(b[:]))
	clock = time.Unix(0, ns)
	used := processCPU(w.pid)
	if ns != w.last {
		w.last, w.moved, w.cpuAtMove = ns, now, used
		return clock, ""
	}
	stood := now.Sub(w.moved)
	busy := (used - w.cpuAtMove).Seconds() / stood.Seconds()
	switch {
	case stood >= w.idleFor && busy < clockIdleShare:
		return clock, fmt.Sprintf("virtual time has stood for %v while the process was idle", stood.Round(time.Second))
	case stood >= w.busyFor:
		return clock, fmt.Sprintf("virtual time has stood for %v while the process was busy", stood.Round(time.Second))
	}
	return clock, ""
}

// processCPU is the CPU time that a process has used.
func processCPU(pid int) time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may hold spaces. utime and stime are the 14th and
	// 15th field.
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// watch looks at the child's clock until done is closed. When the clock stands for
// too long the child is made to write the stacks of its goroutines, and ends.
func (c *child) watch(w *clockWatch, done <-chan struct{}) {
	defer w.mem.Close()
	ticker := time.NewTicker(clockEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			clock, stuck := w.look(now)
			if !clock.IsZero() && !c.began.IsZero() {
				c.show.setClock(clock.Sub(c.began))
			}
			if stuck == "" || c.paced {
				continue
			}
			c.stuck = stuck
			_ = syscall.Kill(w.pid, syscall.SIGQUIT)
			select {
			case <-done:
			case <-time.After(afterDumpWithin):
			}
			_ = syscall.Kill(w.pid, syscall.SIGKILL)
			return
		}
	}
}

// crashed says how the child ended without a result, and keeps what it wrote.
func (c *child) crashed(err error) error {
	what := fmt.Sprintf("the process that played %s ended without a result (%v)", c.scenario.Name, err)
	if c.stuck != "" {
		what = fmt.Sprintf("%s was given up: %s", c.scenario.Name, c.stuck)
		for _, h := range playback.Holders(c.raw.String()) {
			what += "\n  the clock is held by " + h.String()
		}
	}
	raw := bytes.TrimSpace(c.raw.Bytes())
	if len(raw) == 0 {
		return fmt.Errorf("%s", what)
	}
	if first, _, _ := bytes.Cut(raw, []byte("\n")); c.stuck == "" {
		what += ": " + string(first)
	}
	file, createErr := os.CreateTemp("", "sim-virtual-*.log")
	if createErr != nil {
		return fmt.Errorf("%s; its output cannot be kept: %w", what, createErr)
	}
	_, writeErr := file.Write(raw)
	if closeErr := file.Close(); writeErr != nil || closeErr != nil {
		return fmt.Errorf("%s; its output cannot be kept", what)
	}
	return fmt.Errorf("%s; what it wrote is in %s", what, file.Name())
}
