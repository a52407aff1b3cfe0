package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"nodelet/scenarios"
	"nodelet/simcluster"
)

// upFlags are the flags of sim up.
type upFlags struct {
	nodes                            int
	kubeconfig, listen, dir, apiLoad string
	seed                             uint64
	log                              logFlags
}

func upCommand(stdout, stderr io.Writer) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster and keep it until Ctrl-C",
		Example: `  sim up --nodes 200 --kubeconfig kc
  kubectl --kubeconfig kc get nodes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return up(cmd.Context(), &f, stdout, stderr) },
	}
	flags := cmd.Flags()
	flags.IntVar(&f.nodes, "nodes", 10, "how many nodes; 0 for the control plane alone")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "nodelet.kubeconfig", "write the kubeconfig to this file; it is removed at the end")
	flags.StringVar(&f.listen, "listen", "127.0.0.1:0", "loopback address for kubectl; port 0 is any free one")
	flags.StringVar(&f.dir, "dir", "", "keep the cluster's data in this folder (default: in memory, gone at the end)")
	flags.StringVar(&f.apiLoad, "api-load", "faithful", "faithful: each node has its own watches; shared: all are fed from one set")
	flags.Uint64Var(&f.seed, "seed", 0, "seed of all randomness")
	f.log.add(flags)
	return cmd
}

func up(ctx context.Context, f *upFlags, stdout, stderr io.Writer) (err error) {
	if f.nodes < 0 {
		return exit(exitInput, fmt.Errorf("--nodes %d: must be 0 or more", f.nodes))
	}
	if f.kubeconfig == "" {
		return exit(exitInput, errors.New("--kubeconfig: must name a file"))
	}
	if err := checkKubeconfig(f.kubeconfig); err != nil {
		return exit(exitInput, err)
	}
	log, closeLog, err := f.log.open(stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	began := time.Now()
	cluster, err := simcluster.Start(ctx, simcluster.Options{Dir: f.dir, Listen: f.listen, Seed: f.seed,
		APILoad: simcluster.APILoad(f.apiLoad), Logger: log})
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return startError(ctx, err)
	}
	defer func() {
		if stopErr := stop(cluster); err == nil {
			err = stopErr
		}
	}()
	if err := cluster.WriteKubeconfig(f.kubeconfig); err != nil {
		return exit(exitInput, err)
	}
	defer os.Remove(f.kubeconfig)
	if err := addNodes(ctx, cluster, f.nodes); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return exit(exitCluster, err)
	}
	fmt.Fprintf(stdout, "The cluster is up after %.1fs: %d nodes Ready, API server at %s\n\n  kubectl --kubeconfig %s get nodes,pods -A\n\nCtrl-C ends it.\n",
		time.Since(began).Seconds(), f.nodes, cluster.URL(), f.kubeconfig)
	select {
	case <-ctx.Done():
		fmt.Fprintln(stderr, "stopping")
		return nil
	case <-cluster.Done():
		return exit(exitCluster, fmt.Errorf("the cluster failed: %w", cluster.Err()))
	}
}

// addNodes adds nodes and waits until they are Ready.
func addNodes(ctx context.Context, cluster *simcluster.Cluster, nodes int) error {
	if nodes == 0 {
		return nil
	}
	s := &scenarios.Scenario{Name: "up", Nodes: []scenarios.NodeGroup{{Name: "node", Count: nodes}}}
	s.Timeout.Duration = 10 * time.Minute
	ctx, cancel := bound(ctx, cluster)
	defer cancel()
	result, err := scenarios.Play(ctx, s, stage{cluster}, scenarios.Hooks{})
	if err != nil {
		return err
	}
	return result.Err()
}
