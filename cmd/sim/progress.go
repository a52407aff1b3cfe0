package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"nodelet/scenarios"
)

// display shows how a scenario gets on: on a terminal a few lines that are
// drawn anew, in a pipe one line for each step.
type display struct {
	w     io.Writer
	name  string
	began time.Time
	live  bool

	mu    sync.Mutex
	drawn int
	// last is the newest step that a plain line was written for.
	last int
}

func newDisplay(w io.Writer, name string) *display {
	d := &display{w: w, name: name, began: time.Now(), last: -1}
	if f, ok := w.(*os.File); ok {
		d.live = term.IsTerminal(int(f.Fd()))
	}
	return d
}

// say tells of something that is not a step.
func (d *display) say(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live {
		d.draw([]string{d.head(), "  " + what})
		return
	}
	fmt.Fprintf(d.w, "%s  %s\n", d.head(), what)
}

// line writes a line that stays.
func (d *display) line(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	fmt.Fprintln(d.w, text)
}

func (d *display) head() string {
	return fmt.Sprintf("%s %6.1fs", d.name, time.Since(d.began).Seconds())
}

// update shows an update of a scenario.
func (d *display) update(u scenarios.Update) {
	d.mu.Lock()
	defer d.mu.Unlock()
	mark := "…"
	switch {
	case u.Done && u.Err != nil:
		mark = "✗"
	case u.Done:
		mark = "✓"
	}
	counts := fmt.Sprintf("nodes %d/%d ready  pods %d: %d running, %d ready", u.NodesReady, u.Nodes, u.Pods, u.PodsRunning, u.PodsReady)
	if u.Failed > 0 {
		counts += fmt.Sprintf(", %d failed", u.Failed)
	}
	step := fmt.Sprintf("%s [%d/%d] %s", mark, u.Step, u.Steps, u.Name)
	if !d.live {
		if u.Done {
			fmt.Fprintf(d.w, "%s  %-60s  %s\n", d.head(), step, counts)
		}
		return
	}
	if u.Done {
		d.erase()
		fmt.Fprintf(d.w, "%s  %s\n", d.head(), step)
		return
	}
	d.draw([]string{
		fmt.Sprintf("%s  %s", d.head(), step),
		fmt.Sprintf("  nodes %s %d/%d ready", bar(u.NodesReady, u.Nodes), u.NodesReady, u.Nodes),
		fmt.Sprintf("  pods  %s %d/%d ready, %d running", bar(u.PodsReady, u.Pods), u.PodsReady, u.Pods, u.PodsRunning),
	})
}

const barWidth = 30

func bar(n, of int) string {
	full := 0
	if of > 0 {
		full = barWidth * n / of
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// draw replaces the lines drawn last.
func (d *display) draw(lines []string) {
	d.erase()
	for _, l := range lines {
		fmt.Fprintln(d.w, l)
	}
	d.drawn = len(lines)
}

// erase takes the drawn lines away again.
func (d *display) erase() {
	if d.drawn > 0 {
		fmt.Fprintf(d.w, "\x1b[%dA\x1b[J", d.drawn)
	}
	d.drawn = 0
}

// close leaves nothing behind but what stays.
func (d *display) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
}
