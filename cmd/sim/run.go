package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"nodelet/internal/transcript"
	"nodelet/scenarios"
	"nodelet/simcluster"
)

// runFlags are the flags of sim run.
type runFlags struct {
	junit, json, apiLoad, listen, kubeconfig string
	time, speed, pauseAt, transcript         string
	grain                                    time.Duration
	places                                   bool
	seed                                     uint64
	log                                      logFlags
}

func runCommand(stdout, stderr io.Writer) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run FILE|FOLDER...",
		Short: "Play scenarios, each on a cluster of its own",
		Example: `  sim run scenarios/demo.yaml
  sim run scenarios --junit report.xml`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runScenarios(cmd.Context(), cmd, &f, args, stdout, stderr)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.junit, "junit", "", "write a JUnit report to this file")
	flags.StringVar(&f.json, "json", "", "write a JSON report to this file")
	flags.StringVar(&f.time, "time", "", "real, or virtual: hours in seconds (default: the scenario's)")
	flags.StringVar(&f.speed, "speed", "max", "of virtual time: real, or so many times faster, or max")
	flags.StringVar(&f.pauseAt, "pause-at", "", "wait for Enter before the step of this number or name")
	flags.StringVar(&f.transcript, "transcript", "", "write what happens to every pod and node to this file, for sim diff")
	flags.BoolVar(&f.places, "places", false, "have the transcript tell on which nodes pods are")
	flags.DurationVar(&f.grain, "grain", time.Second, "round the transcript's times down to this")
	flags.StringVar(&f.apiLoad, "api-load", "", "faithful: each node has its own watches; shared: all are fed from one set (default: the scenario's)")
	flags.Uint64Var(&f.seed, "seed", 0, "seed of all randomness (default: the scenario's)")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "write a kubeconfig to this file, to look on with kubectl")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:0", "loopback address for kubectl, with --kubeconfig")
	f.log.add(flags)
	return cmd
}

func runScenarios(ctx context.Context, cmd *cobra.Command, f *runFlags, paths []string, stdout, stderr io.Writer) error {
	all, err := scenarios.Load(paths...)
	if err != nil {
		return exit(exitInput, err)
	}
	for _, s := range all {
		if err := f.setTime(s); err != nil {
			return exit(exitInput, err)
		}
		if cmd.Flags().Changed("seed") {
			s.Seed = f.seed
		}
		if f.apiLoad != "" {
			s.APILoad = f.apiLoad
		}
	}
	if err := f.check(all); err != nil {
		return exit(exitInput, err)
	}
	log, closeLog, err := f.log.open(stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	if slices.ContainsFunc(all, func(s *scenarios.Scenario) bool { return s.Time == scenarios.VirtualTime }) {
		if _, err := findVirtual(); err != nil {
			return exit(exitInput, err)
		}
	}

	var results []*scenarios.Result
	failed := false
	for _, s := range all {
		result, playErr := f.play(ctx, s, log, stderr)
		if playErr != nil {
			// The reports tell at least of those before.
			err = playErr
			break
		}
		results = append(results, result)
		failed = failed || !result.Passed()
		if err := scenarios.WriteVerdict(stdout, result); err != nil {
			return exit(exitCluster, fmt.Errorf("writing the verdict: %w", err))
		}
	}
	if reportErr := f.writeReports(results); reportErr != nil && err == nil {
		err = exit(exitInput, reportErr)
	}
	if err == nil && failed {
		err = exit(exitFailed, errTold)
	}
	return err
}

// check finds out early what would spoil a run at its end.
func (f *runFlags) check(all []*scenarios.Scenario) error {
	if f.transcript != "" && len(all) > 1 {
		return fmt.Errorf("--transcript %s: is of one scenario; there are %d", f.transcript, len(all))
	}
	if f.grain <= 0 {
		return fmt.Errorf("--grain %v: must be more than nothing", f.grain)
	}
	for _, s := range all {
		if f.pauseAt != "" && s.StepNumber(f.pauseAt) == 0 {
			return fmt.Errorf("--pause-at %s: %s has no step of that number or name", f.pauseAt, s.File)
		}
	}
	for _, file := range []string{f.junit, f.json, f.transcript} {
		if err := writable(file); err != nil {
			return fmt.Errorf("the report %s cannot be written: %w", file, err)
		}
	}
	return checkKubeconfig(f.kubeconfig)
}

// checkKubeconfig: the file is removed at the end, so it must not be there yet.
func checkKubeconfig(file string) error {
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("--kubeconfig %s: the file exists; it would be overwritten", file)
	}
	if err := writable(file); err != nil {
		return fmt.Errorf("--kubeconfig %s: cannot be written: %w", file, err)
	}
	return nil
}

// setTime settles a scenario's clock.
func (f *runFlags) setTime(s *scenarios.Scenario) error {
	speed, err := parseSpeed(f.speed)
	if err != nil {
		return err
	}
	// kubectl can only follow a clock that is held for it.
	tooFast := f.kubeconfig != "" && speed == 0 && f.pauseAt == ""
	switch {
	case f.time != "":
		s.Time = scenarios.TimeMode(f.time)
	case tooFast && !s.TimeGiven:
		s.Time = scenarios.RealTime
	}
	switch {
	case s.Time == scenarios.RealTime:
		return nil
	case s.Time != scenarios.VirtualTime:
		return fmt.Errorf("--time %s: must be real or virtual", s.Time)
	case tooFast:
		return fmt.Errorf("%s: --kubeconfig %s: kubectl lives in real time; add --time real, --speed or --pause-at", s.File, f.kubeconfig)
	}
	return nil
}

// play plays a scenario by its clock.
func (f *runFlags) play(ctx context.Context, s *scenarios.Scenario, log *slog.Logger, stderr io.Writer) (*scenarios.Result, error) {
	show := newDisplay(stderr, s.Name, f.log.verbose)
	defer show.close()
	o := playing{listen: f.listen, kubeconfig: f.kubeconfig, pauseAt: f.pauseAt, transcript: f.transcript, grain: f.grain, places: f.places}
	if s.Time == scenarios.VirtualTime {
		o.speed, _ = parseSpeed(f.speed) // setTime has checked it
		return playVirtual(ctx, s, o, log, show)
	}
	return play(ctx, s, o, log, show)
}

// playing is how a scenario is played, beside what it says itself.
type playing struct {
	dir, listen, kubeconfig, pauseAt, transcript string
	grain                                        time.Duration
	places                                       bool
	// speed is of virtual time; 0 for as fast as can be.
	speed float64
}

// progress is told how a scenario gets on.
type progress interface {
	// say tells of something that is not a step, line writes what stays.
	say(what string)
	line(text string)
	update(u scenarios.Update)
}

// play plays one scenario in this process, on a cluster of its own.
func play(ctx context.Context, s *scenarios.Scenario, p playing, log *slog.Logger, display progress) (result *scenarios.Result, err error) {
	display.say("starting the control plane")
	o := simcluster.Options{Dir: p.dir, Logger: log, APILoad: simcluster.APILoad(s.APILoad), Seed: s.Seed,
		ControllerManagerArgs: args(s.ControllerManager), SchedulerArgs: args(s.Scheduler)}
	if p.kubeconfig != "" {
		o.Listen = p.listen
	}
	cluster, err := simcluster.Start(ctx, o)
	if err != nil {
		return nil, startError(ctx, err)
	}
	defer func() {
		if virtualBuild {
			// This process is about to end, and its parent removes the data: there
			// is nothing to be gained by stopping every part in its turn.
			return
		}
		display.say("stopping the cluster")
		if stopErr := stop(cluster); err == nil {
			err = stopErr
		}
	}()
	if p.kubeconfig != "" {
		if err := cluster.WriteKubeconfig(p.kubeconfig); err != nil {
			return nil, exit(exitInput, err)
		}
		defer os.Remove(p.kubeconfig)
		display.line("kubectl --kubeconfig " + p.kubeconfig + " get nodes,pods -A")
	}
	playCtx, cancel := bound(ctx, cluster)
	defer cancel()
	recorder := transcript.NewRecorder(p.places)
	hooks := scenarios.Hooks{Progress: display.update, Before: p.pause(s, display)}
	if p.transcript != "" {
		hooks.Observe = recorder.Changed
	}
	result, err = scenarios.Play(playCtx, s, stage{cluster}, hooks)
	switch {
	case ctx.Err() != nil:
		return nil, exit(exitFailed, errInterrupted)
	case isClusterFailure(context.Cause(playCtx)):
		return nil, exit(exitCluster, context.Cause(playCtx))
	case err != nil:
		return nil, exit(exitCluster, err)
	}
	return result, p.writeTranscript(recorder)
}

// pause is the hook that waits before the step that --pause-at names.
func (p *playing) pause(s *scenarios.Scenario, display progress) func(context.Context, int, string) error {
	if p.pauseAt == "" {
		return nil
	}
	return func(ctx context.Context, step int, name string) error {
		if step != s.StepNumber(p.pauseAt) {
			return nil
		}
		display.line(fmt.Sprintf("paused before step %d, %s; Enter goes on", step, name))
		return waitForEnter(ctx)
	}
}

func (p *playing) writeTranscript(r *transcript.Recorder) error {
	if p.transcript == "" {
		return nil
	}
	err := writeFile(p.transcript, func(w io.Writer) error {
		return transcript.Write(w, transcript.Canonical(r.Entries(), p.grain))
	})
	if err != nil {
		return exit(exitInput, fmt.Errorf("writing the transcript: %w", err))
	}
	return nil
}

// writable finds out whether a file can be written, without touching it.
func writable(file string) error {
	if file == "" {
		return nil
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		return errors.New("it is a folder")
	}
	probe, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("folder %s: %w", filepath.Dir(file), errors.Unwrap(err))
	}
	probe.Close()
	return os.Remove(probe.Name())
}

func (f *runFlags) writeReports(results []*scenarios.Result) error {
	for _, report := range []struct {
		file  string
		write func(io.Writer, []*scenarios.Result) error
	}{{f.junit, scenarios.WriteJUnit}, {f.json, scenarios.WriteJSON}} {
		if report.file == "" {
			continue
		}
		if err := writeFile(report.file, func(w io.Writer) error { return report.write(w, results) }); err != nil {
			return fmt.Errorf("writing the report %s: %w", report.file, err)
		}
	}
	return nil
}

func writeFile(name string, write func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}
