// Command sim runs a hermetic Kubernetes cluster in one process: the real
// control plane and any number of simulated nodes. It plays scenarios on it,
// keeps it for kubectl, or measures it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"nodelet/scenarios"
	"nodelet/simcluster"
)

// version is set by the linker.
var version = "unknown"

// Exit codes.
const (
	exitPassed  = 0
	exitFailed  = 1 // an expectation was not met
	exitInput   = 2 // bad input
	exitCluster = 3 // the cluster itself failed
)

// exitError is an error with an exit code. An empty error has been told.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func exit(code int, err error) error { return &exitError{code, err} }

// errTold stands for an error that was told already.
var errTold = errors.New("")

func main() {
	// Whoever reads the output may go; the cluster is ended in order all the same.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole command: results go to stdout, progress and errors to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "sim",
		Short: "A Kubernetes cluster in one process, and scenarios on it",
		Long: `sim runs the real Kubernetes control plane (etcd, kube-apiserver,
kube-controller-manager, kube-scheduler) and any number of simulated nodes in one
process. The nodes run Nodelet's own agent on a runtime in memory.

Exit codes: 0 passed, 1 an expectation failed, 2 bad input, 3 the cluster failed.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit(exitInput, err) })
	root.AddCommand(runCommand(stdout, stderr), validateCommand(stdout), upCommand(stdout, stderr),
		benchCommand(stdout, stderr), versionCommand(stdout), diffCommand(stdout), playCommand(stdout))

	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitPassed
	}
	if !errors.Is(err, errTold) {
		fmt.Fprintf(stderr, "sim: %v\n", err)
	}
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	// Cobra's own complaints are about the command line.
	return exitInput
}

func versionCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(stdout, "sim %s\n", version)
			return err
		},
	}
}

func validateCommand(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE|FOLDER...",
		Short: "Check scenario files without playing them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := scenarios.Load(args...)
			if err != nil {
				return exit(exitInput, err)
			}
			for _, s := range all {
				fmt.Fprintf(stdout, "%s: %s is valid (%d steps)\n", s.File, s.Name, len(s.Steps))
			}
			return nil
		},
	}
}

// errInterrupted says that the user has ended what was going on.
var errInterrupted = errors.New("interrupted")

// startError gives a failure of the cluster's start its exit code: what the user
// asked for may be what cannot be had, or the user may have thought better of it.
func startError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return exit(exitFailed, errInterrupted)
	}
	var option *simcluster.OptionError
	if errors.As(err, &option) {
		return exit(exitInput, option)
	}
	return exit(exitCluster, err)
}
