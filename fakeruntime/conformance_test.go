package fakeruntime

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime/podruntimetest"
)

const unknownImage = "registry.example/none:1"

// The containers of the suite say by their command how they behave.
func commanded(p *v1.Pod, c *v1.Container, attempt uint32) Behavior {
	b := DefaultBehavior()
	if c.Image == unknownImage {
		b.PullError = "manifest unknown"
	}
	if len(c.Command) == 0 {
		return b
	}
	switch c.Command[0] {
	case "serve":
		b.Logs = []string{"yes"}
	case "stubborn":
		b.IgnoreSIGTERM, b.Logs = true, []string{"no"}
	case "fail":
		b.Exits, b.ExitAfter, b.ExitCode = true, Latency{Min: 500 * time.Millisecond}, 3
	case "complete":
		b.Exits, b.ExitAfter = true, Latency{Min: 500 * time.Millisecond}
	case "print":
		b.Logs = podruntimetest.LogLines[:]
	case "broken":
		b.StartError = "exec: \"broken\": executable file not found in $PATH"
	}
	return b
}

func TestConformance(t *testing.T) {
	command := func(name string) v1.Container { return v1.Container{Command: []string{name}} }
	podruntimetest.Run(t, func(t *testing.T, test func(*testing.T, podruntimetest.Harness)) {
		synctest.Test(t, func(t *testing.T) {
			r := New(Options{Script: commanded})
			test(t, podruntimetest.Harness{
				Runtime:      r,
				Image:        "registry.example/some/server:v1",
				UnknownImage: unknownImage,
				Server:       command("serve"),
				Stubborn:     command("stubborn"),
				Fails:        command("fail"),
				Completes:    command("complete"),
				Prints:       command("print"),
				CannotStart:  command("broken"),
				ExecExits:    func(code int) []string { return []string{"sh", "-c", fmt.Sprint("exit ", code)} },
				ExecPrints:   func(word string) []string { return []string{"echo", word} },
				ExecBlocks:   []string{"sleep", "3600"},
			})
		})
	})
}
