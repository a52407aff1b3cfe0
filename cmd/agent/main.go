// Command agent is a Kubernetes node: it joins a cluster and runs its pods.
//
// The engine is package agent; here are its flags (flags.go), its configuration
// file (configfile.go, configfields.go), what both amount to (settings.go) and
// what the agent stands on (wire.go). docs/agent.md tells how to run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

// version is set by the linker.
var version = "unknown"

// Exit codes.
const (
	exitFailed   = 1
	exitBadInput = 2
)

// badInput is an error that is the user's to mend.
type badInput struct{ error }

func main() { os.Exit(run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr)) }

// untilSignal returns a context that the first SIGINT or SIGTERM ends, and with
// it the agent in order. A second one finds no handler any more and ends the
// process at once.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// run is the whole command.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "agent: %v\n", err)
		return code
	}
	o, warnings, err := parse(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		help(stdout)
		return 0
	case err != nil:
		return fail(exitBadInput, fmt.Errorf("%w\nagent --help tells the flags", err))
	case o.version:
		fmt.Fprintf(stdout, "agent %s\n", version)
		return 0
	}
	s, err := o.settle()
	if err != nil {
		return fail(exitBadInput, err)
	}
	log := newLogger(o.log, stderr)
	if err := setLogger(log, o.log.verbosity); err != nil {
		return fail(exitFailed, err)
	}
	for _, warning := range append(warnings, o.warnings()...) {
		log.Warn(warning)
	}
	runtime, err := newRuntime(s.runtime, log)
	if err != nil {
		return fail(exitFailed, err)
	}
	err = serve(ctx, s, runtime, log)
	switch bad := (badInput{}); {
	case errors.As(err, &bad):
		return fail(exitBadInput, err)
	case err != nil:
		return fail(exitFailed, err)
	}
	return 0
}

// warnings tell of options that are good, but perhaps not what was meant.
func (o *options) warnings() []string {
	var all []string
	if len(o.apiServers) > 1 {
		all = append(all, "--api-servers: only the first is used: "+o.apiServers[0])
	}
	if !maps.Equal(o.evictionHard, defaultEvictionHard) {
		all = append(all, "evictionHard: memory.available and nodefs.available are held back from pods, but pods are not evicted: the agent does not do that yet")
	}
	switch {
	case o.kubeconfig != "":
	case len(o.apiServers) == 0:
		all = append(all, "Without an API server the agent runs static pods alone and registers no node")
	default:
		all = append(all, "Without --kubeconfig the agent is nobody to the API server, whose certificate is not checked")
	}
	return all
}
