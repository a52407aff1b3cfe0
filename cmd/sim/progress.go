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
// drawn anew, in a pipe one line for each step, and some for long ones. Its
// methods may be called concurrently.
type display struct {
	w     io.Writer
	name  string
	began time.Time
	// width is the terminal's, in letters; 0 for plain lines.
	width  int
	colour bool

	mu sync.Mutex
	// clock is the virtual time since the start; negative in real time.
	clock time.Duration
	drawn int
	// told is when the last plain line was written.
	told time.Time
}

// toldEvery is how often there is a plain line for a step that goes on.
const toldEvery = 10 * time.Second

// newDisplay returns a display. With plain it draws nothing that a log would
// spoil.
func newDisplay(w io.Writer, name string, plain bool) *display {
	d := &display{w: w, name: name, began: time.Now(), told: time.Now(), clock: -1}
	f, ok := w.(*os.File)
	if !ok || plain || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return d
	}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		d.width = width
	}
	// See no-color.org.
	d.colour = os.Getenv("NO_COLOR") == ""
	return d
}

// say tells of something that is not a step.
func (d *display) say(what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.width > 0 {
		d.draw([]string{d.head() + "  " + what})
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

// setClock has the display show virtual time beside wall time.
func (d *display) setClock(sinceStart time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock = sinceStart
}

func (d *display) head() string {
	wall := time.Since(d.began)
	if d.clock < 0 {
		return fmt.Sprintf("%s %6.1fs", d.name, wall.Seconds())
	}
	return fmt.Sprintf("%s %9s (wall %5.1fs)", d.name, d.clock.Truncate(100*time.Millisecond), wall.Seconds())
}

// update shows an update of a scenario.
func (d *display) update(u scenarios.Update) {
	d.mu.Lock()
	defer d.mu.Unlock()
	mark := "…"
	switch {
	case u.Done && u.Err != nil:
		mark = d.paint(red, "✗")
	case u.Done:
		mark = d.paint(green, "✓")
	}
	step := fmt.Sprintf("[%d/%d] %s", u.Step, u.Steps, u.Name)
	if u.Detail != "" {
		step += " (" + u.Detail + ")"
	}
	if d.width == 0 {
		if u.Done || time.Since(d.told) >= toldEvery {
			d.told = time.Now()
			fmt.Fprintf(d.w, "%s  %s %-60s  %s\n", d.head(), mark, step, counts(u))
		}
		return
	}
	head := d.head() + "  " + mark + " "
	if u.Done {
		d.erase()
		fmt.Fprintln(d.w, head+step)
		return
	}
	pods := fmt.Sprintf("%d/%d ready, %d running", u.PodsReady, u.Pods, u.PodsRunning)
	if u.Failed > 0 {
		pods += fmt.Sprintf(", %d failed", u.Failed)
	}
	d.draw([]string{
		head + step,
		fmt.Sprintf("  nodes %s %d/%d ready", bar(u.NodesReady, u.Nodes), u.NodesReady, u.Nodes),
		fmt.Sprintf("  pods  %s %s", bar(u.PodsReady, u.Pods), pods),
	})
}

func counts(u scenarios.Update) string {
	text := fmt.Sprintf("nodes %d/%d ready  pods %d: %d running, %d ready", u.NodesReady, u.Nodes, u.Pods, u.PodsRunning, u.PodsReady)
	if u.Failed > 0 {
		text += fmt.Sprintf(", %d failed", u.Failed)
	}
	return text
}

const barWidth = 30

func bar(n, of int) string {
	full := 0
	if of > 0 {
		full = barWidth * n / of
	}
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// The colours that a terminal is asked for.
const (
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

func (d *display) paint(colour, text string) string {
	if !d.colour {
		return text
	}
	return colour + text + plain
}

// draw replaces the lines drawn last. None is longer than the terminal is wide:
// it would take two lines, and one would be left when they are erased.
func (d *display) draw(lines []string) {
	d.erase()
	for _, l := range lines {
		if letters := []rune(l); len(letters) >= d.width {
			l = string(letters[:max(d.width-2, 0)]) + "…"
		}
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
