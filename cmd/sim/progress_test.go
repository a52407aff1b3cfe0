package main

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nodelet/scenarios"
)

// show plays some progress on a display.
func show(d *display) {
	d.say("starting the control plane")
	time.Sleep(4 * time.Second)
	u := scenarios.Update{Step: 1, Steps: 2, Name: "roll out a Deployment of a name that is rather long", Nodes: 4, NodesReady: 2}
	d.update(u)
	time.Sleep(7 * time.Second)
	u.Pods, u.PodsReady, u.PodsRunning, u.NodesReady = 10, 5, 6, 4
	d.update(u)
	u.Done = true
	d.update(u)
	d.line("kubectl get pods")
	u.Step, u.Name, u.Detail, u.Failed, u.Done, u.Err = 2, "kill", "a-0001", 1, true, errors.New("no")
	d.update(u)
	d.close()
}

func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		show(newDisplay(&out, "demo", false))
		want := `demo    0.0s  starting the control plane
demo   11.0s  … [1/2] roll out a Deployment of a name that is rather long     nodes 4/4 ready  pods 10: 6 running, 5 ready
demo   11.0s  ✓ [1/2] roll out a Deployment of a name that is rather long     nodes 4/4 ready  pods 10: 6 running, 5 ready
kubectl get pods
demo   11.0s  ✗ [2/2] kill (a-0001)                                           nodes 4/4 ready  pods 10: 6 running, 5 ready, 1 failed
`
		if out.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
		}
	})
}

// TestLiveProgress draws on a terminal of 40 letters: what stays on it, and that
// nothing drawn was wider.
func TestLiveProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newDisplay(&out, "demo", false)
		d.width, d.colour = 40, true
		show(d)
		screen := &terminal{}
		screen.write(out.String())
		want := "demo   11.0s  \x1b[32m✓\x1b[0m [1/2] roll out a Deployment of a name that is rather long\n" +
			"kubectl get pods\n" +
			"demo   11.0s  \x1b[31m✗\x1b[0m [2/2] kill (a-0001)\n"
		if got := strings.Join(screen.lines, ""); got != want {
			t.Errorf("left on the terminal:\n%q\nwant:\n%q", got, want)
		}
		for _, l := range screen.erased {
			if n := len([]rune(strings.TrimSuffix(l, "\n"))); n >= 40 {
				t.Errorf("a line of %d letters was drawn: %s", n, l)
			}
		}
		if len(screen.erased) != 1+3+3 {
			t.Errorf("drawn and erased: %q", screen.erased)
		}
		if all := strings.Join(screen.erased, ""); !strings.Contains(all, "nodes ███████████████░░░░░") || !strings.Contains(all, "pods  ███████") {
			t.Errorf("no bars: %s", all)
		}
	})
}

// terminal understands what erases lines.
type terminal struct{ lines, erased []string }

var eraser = regexp.MustCompile(`^\x1b\[(\d)A\x1b\[J`)

func (t *terminal) write(text string) {
	for text != "" {
		if m := eraser.FindStringSubmatch(text); m != nil {
			n := int(m[1][0] - '0')
			t.erased = append(t.erased, t.lines[len(t.lines)-n:]...)
			t.lines = t.lines[:len(t.lines)-n]
			text = text[len(m[0]):]
			continue
		}
		line, rest, _ := strings.Cut(text, "\n")
		t.lines = append(t.lines, line+"\n")
		text = rest
	}
}

// TestNoTerminal: a file is no terminal.
func TestNoTerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if d := newDisplay(f, "x", false); d.width != 0 || d.colour {
		t.Errorf("width %d, colour %v", d.width, d.colour)
	}
}
