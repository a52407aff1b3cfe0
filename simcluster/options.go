package simcluster

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"nodelet/agent"
	"nodelet/fakeruntime"
)

// APILoad says how much the agents ask of the API server.
type APILoad string

const (
	// Faithful gives each agent the watches that a real node opens.
	Faithful APILoad = "faithful"
	// Shared feeds all agents from one watch on pods and one on nodes.
	Shared APILoad = "shared"
)

// Options say what cluster to start. The zero value is a cluster with its data
// in memory, without a port, with faithful API load.
type Options struct {
	// Dir is the data directory; it is kept after Stop, and a later Start may
	// go on from it. Empty means a new directory in memory-backed temporary
	// storage, which Stop removes.
	Dir string
	// Listen is a loopback host:port at which people's kubectl reaches the API
	// server; port 0 means any free one. Empty means none.
	Listen string
	// APILoad is Faithful unless set.
	APILoad APILoad
	// Seed is the source of the agents' and the fake runtimes' randomness.
	Seed uint64
	// Logger gets what the cluster and, at debug level, its upstream parts have
	// to say. Nil discards it. What upstream logs through klog goes to the
	// logger of the first cluster in the process.
	Logger *slog.Logger

	// APIServerArgs, ControllerManagerArgs and SchedulerArgs are flags of these
	// components, added after those that simcluster sets. Feature gates are
	// process-wide.
	APIServerArgs, ControllerManagerArgs, SchedulerArgs []string
	// DisableControllerManager and DisableScheduler leave these parts out.
	DisableControllerManager, DisableScheduler bool

	// Agent, if set, changes the configuration of each node's agent before the
	// agent is made. It may be called concurrently.
	Agent func(*agent.Config)

	// Script says how containers behave; nil for fakeruntime's default.
	Script fakeruntime.Script
}

// OptionError says that an option cannot be had: it is malformed, or the machine
// refuses it (a taken port, an unwritable directory).
type OptionError struct {
	// Option is the name of the field of Options.
	Option string
	Err    error
}

func (e *OptionError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *OptionError) Unwrap() error { return e.Err }

// Validate reports every fault at once; each is an *OptionError. It does not
// touch the machine: whether the port is free shows in Start.
func (o *Options) Validate() error {
	var errs []error
	switch o.APILoad {
	case "", Faithful, Shared:
	default:
		errs = append(errs, &OptionError{"APILoad",
			fmt.Errorf("API load %q: must be %q or %q", o.APILoad, Faithful, Shared)})
	}
	if err := validateListen(o.Listen); err != nil {
		errs = append(errs, &OptionError{"Listen", fmt.Errorf("listen address %q: %w", o.Listen, err)})
	}
	return errors.Join(errs...)
}

func validateListen(addr string) error {
	if addr == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must be host:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q: must be a number from 0 to 65535", port)
	}
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return errors.New("must be a loopback address, such as 127.0.0.1:0")
	}
	return nil
}

// withDefaults returns o with its empty fields filled in.
func (o Options) withDefaults() Options {
	if o.APILoad == "" {
		o.APILoad = Faithful
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
