package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nodelet/scenarios"
	"nodelet/simcluster"
)

// playCommand is the child's side. It is not for people.
func playCommand(stdout io.Writer) *cobra.Command {
	var o playOptions
	cmd := &cobra.Command{
		Use:    "play FILE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := newWire(stdout)
			result, err := o.play(cmd.Context(), args[0], w)
			if err != nil {
				code := exitCluster
				var e *exitError
				if errors.As(err, &e) {
					code = e.code
				}
				w.send(message{Failure: err.Error(), Code: code})
				return exit(code, errTold)
			}
			w.send(message{Result: resultToWire(result)})
			return nil
		},
	}
	o.add(cmd.Flags())
	return cmd
}

// playOptions are the child's flags.
type playOptions struct {
	pick, apiLoad string
	seed          uint64
	verbose       bool
	playing
}

func (o *playOptions) add(flags *pflag.FlagSet) {
	flags.StringVar(&o.pick, "pick", "", "name of the scenario")
	flags.StringVar(&o.apiLoad, "api-load", "", "API load")
	flags.Uint64Var(&o.seed, "seed", 0, "seed")
	flags.BoolVar(&o.verbose, "verbose", false, "log")
	flags.StringVar(&o.dir, "dir", "", "data directory")
	flags.StringVar(&o.listen, "listen", "", "address for kubectl")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "file")
	flags.StringVar(&o.pauseAt, "pause-at", "", "step")
	flags.StringVar(&o.transcript, "transcript", "", "file")
	flags.BoolVar(&o.places, "places", false, "in the transcript")
	flags.DurationVar(&o.grain, "grain", time.Second, "of the transcript")
	flags.Float64Var(&o.speed, "speed", 0, "of virtual time; 0 for as fast as can be")
}

// childArgs are the child's command line.
func (p *playing) childArgs(s *scenarios.Scenario, log *slog.Logger) []string {
	return []string{"play", s.File, "--pick", s.Name, "--api-load", s.APILoad,
		"--seed", strconv.FormatUint(s.Seed, 10),
		"--verbose=" + strconv.FormatBool(log.Enabled(context.Background(), slog.LevelInfo)),
		"--dir", p.dir, "--listen", p.listen, "--kubeconfig", p.kubeconfig, "--pause-at", p.pauseAt,
		"--transcript", p.transcript, "--grain", p.grain.String(),
		"--places=" + strconv.FormatBool(p.places),
		"--speed", strconv.FormatFloat(p.speed, 'g', -1, 64)}
}

func (o *playOptions) play(ctx context.Context, file string, w *wire) (*scenarios.Result, error) {
	all, err := scenarios.Load(file)
	if err != nil {
		return nil, exit(exitInput, err)
	}
	for _, s := range all {
		if s.Name != o.pick {
			continue
		}
		s.Time, s.Seed, s.APILoad = scenarios.VirtualTime, o.seed, o.apiLoad
		start := defaultStart
		if s.Start != "" {
			// Load has checked it.
			start, _ = time.Parse(time.RFC3339, s.Start)
		}
		if virtualBuild {
			// The clock begins in 2009; nothing runs yet, so this is one jump.
			time.Sleep(time.Until(start))
		}
		w.send(message{Clock: uint64(simcluster.ClockAddress())})
		log := slog.New(slog.DiscardHandler)
		if o.verbose {
			log = slog.New(slog.NewTextHandler(wireLog{w}, nil))
		}
		if o.speed > 0 {
			go pace(ctx, o.speed)
		}
		return play(ctx, s, o.playing, log, w)
	}
	return nil, exit(exitInput, fmt.Errorf("%s: has no scenario named %q", file, o.pick))
}
