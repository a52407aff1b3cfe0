package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"nodelet/agent/pod"
)

// asAgent is set where the test's binary is to be an agent: its command line,
// by lines.
const asAgent = "NODELET_TEST_AGENT"

func TestMain(m *testing.M) {
	if args := os.Getenv(asAgent); args != "" {
		os.Exit(beAgent(strings.Split(args, "\n")))
	}
	os.Exit(m.Run())
}

// beAgent is main with a runtime of no pods, which hangs if the last argument
// says so.
func beAgent(args []string) int {
	ctx := untilSignal()
	o, _, err := parse(args[:len(args)-1])
	if err != nil {
		fmt.Println(err)
		return exitBadInput
	}
	s, err := o.settle()
	if err != nil {
		fmt.Println(err)
		return exitBadInput
	}
	context.AfterFunc(ctx, func() { fmt.Println("told to end") })
	if args[len(args)-1] == "hang" {
		err = serve(ctx, s, hungRuntime{}, newLogger(o.log, os.Stdout))
	} else {
		err = serve(ctx, s, emptyRuntime{}, newLogger(o.log, os.Stdout))
	}
	if err != nil {
		fmt.Println(err)
		return exitFailed
	}
	return 0
}

// hungRuntime never says what pods it has, not even at the end.
type hungRuntime struct{ emptyRuntime }

func (hungRuntime) ListPods(context.Context) ([]pod.Observed, error) {
	fmt.Println("hanging")
	select {}
}

// startAgent starts an agent in a process of its own and waits for it to be up.
func startAgent(t *testing.T, how string) (process *exec.Cmd, waitFor func(string)) {
	t.Helper()
	server := httptest.NewServer(&apiServer{})
	t.Cleanup(server.Close)
	process = exec.Command(os.Args[0])
	process.Env = append(os.Environ(), asAgent+"="+strings.Join(append(nodeArgs(t, server.URL), how), "\n"))
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { process.Process.Kill() })
	t.Cleanup(func() { limit.Stop() })
	lines := bufio.NewScanner(out)
	waitFor = func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the agent did not say %q", text)
	}
	waitFor("Starting the agent")
	return process, waitFor
}

func TestFirstSignalEndsInOrder(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		process, waitFor := startAgent(t, "")
		if err := process.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		waitFor("its pods go on running")
		if err := process.Wait(); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	process, waitFor := startAgent(t, "hang")
	waitFor("hanging")
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitFor("told to end")
	// The handler is taken away at the same time as this is told.
	ended := make(chan error)
	go func() { ended <- process.Wait() }()
	for {
		select {
		case <-time.After(20 * time.Millisecond):
			// It may have ended meanwhile.
			_ = process.Process.Signal(syscall.SIGTERM)
		case err := <-ended:
			if err == nil || process.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("ended with %v", err)
			}
			return
		}
	}
}
