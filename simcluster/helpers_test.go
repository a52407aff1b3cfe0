package simcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startCluster starts a cluster that the test's end stops, and has the test fail
// if that leaves something behind.
func startCluster(t *testing.T, o Options) *Cluster {
	t.Helper()
	checkNothingLeft(t)
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	began := time.Now()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Logf("started in %v", time.Since(began))
	t.Cleanup(func() {
		if err := c.Err(); err != nil {
			t.Errorf("the cluster failed: %v", err)
		}
		began := time.Now()
		stop(t, c)
		t.Logf("stopped in %v", time.Since(began))
	})
	return c
}

func stop(t *testing.T, c *Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := c.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// checkNothingLeft has the test fail if at its end there are directories or
// goroutines of clusters that were not there before.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	before := temporaryDirs(t)
	t.Cleanup(func() {
		for dir := range temporaryDirs(t) {
			if !before[dir] {
				t.Errorf("a directory was left behind: %s", dir)
			}
		}
		eventually(t, 5*time.Second, func() error {
			if left := ourGoroutines(); len(left) > 0 {
				return fmt.Errorf("%d goroutines were left behind:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			return nil
		})
	})
}

func temporaryDirs(t *testing.T) map[string]bool {
	t.Helper()
	dirs := map[string]bool{}
	for _, parent := range []string{sharedMemory, os.TempDir()} {
		found, err := filepath.Glob(filepath.Join(parent, fmt.Sprintf("%s%d-*", temporaryPrefix, os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range found {
			dirs[dir] = true
		}
	}
	return dirs
}

// ourGoroutines are the stacks of goroutines that run code of this module, but
// for the tests' own.
func ourGoroutines() []string {
	buf := make([]byte, 64<<20)
	var ours []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "nodelet/") && !strings.Contains(stack, "testing.tRunner") {
			ours = append(ours, stack)
		}
	}
	return ours
}

// eventually asks check until it succeeds; the test fails if that takes too long.
func eventually(t *testing.T, timeout time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %v", timeout, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func waitNodesReady(t *testing.T, c *Cluster, want int) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		nodes, err := c.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for i := range nodes.Items {
			if nodeReady(&nodes.Items[i]) == v1.ConditionTrue {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d nodes are ready, want %d", ready, len(nodes.Items), want)
		}
		return nil
	})
}

func nodeReady(n *v1.Node) v1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == v1.NodeReady {
			return c.Status
		}
	}
	return v1.ConditionUnknown
}

func waitNode(t *testing.T, c *Cluster, name string, want v1.ConditionStatus) {
	t.Helper()
	eventually(t, 60*time.Second, func() error {
		n, err := c.client.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("waiting for node %s: %w", name, err)
		}
		if got := nodeReady(n); got != want {
			return fmt.Errorf("node %s: Ready is %s, want %s", name, got, want)
		}
		return nil
	})
}

// wantOptionError has the test fail unless err is about the option and mentions
// text, in one line.
func wantOptionError(t *testing.T, err error, option, text string) {
	t.Helper()
	var e *OptionError
	switch {
	case !errors.As(err, &e):
		t.Errorf("error %v: want an OptionError", err)
	case e.Option != option || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n"):
		t.Errorf("error of option %s: %q\nwant of %s, with %q in one line", e.Option, err, option, text)
	}
}
