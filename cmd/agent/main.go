// Command agent is a Kubernetes node: it joins a cluster and runs its pods.
//
// The engine is package agent. Its runtime on Docker Engine is not linked in
// yet, so for now the command validates its flags and says so; the simulator
// runs the same engine on the fake runtime.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"nodelet/agent"
)

// version is set by the linker.
var version = "unknown"

// Exit codes.
const (
	exitFailed   = 1
	exitBadInput = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	config := agent.DefaultConfig()
	kubeconfig := flags.String("kubeconfig", "", "file that says where the API server is and who this node is")
	flags.StringVar(&config.NodeName, "hostname-override", "", "name of the node; default: the host's name")
	flags.StringToStringVar(&config.Labels, "node-labels", nil, "labels to register the node with, key=value,…")
	flags.BoolVar(&config.RegisterNode, "register-node", config.RegisterNode, "create the Node object; false keeps only the status of an existing one")
	flags.IntVar(&config.MaxPods, "max-pods", config.MaxPods, "how many pods the node takes")
	flags.DurationVar(&config.NodeStatusUpdateFrequency, "node-status-update-frequency", config.NodeStatusUpdateFrequency, "how often the node's status is computed")
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "agent: %v\n", err)
		return exitBadInput
	}
	if *showVersion {
		fmt.Fprintf(stdout, "agent %s\n", version)
		return 0
	}
	if config.NodeName == "" {
		name, err := os.Hostname()
		if err != nil {
			fmt.Fprintf(stderr, "agent: finding the host's name: %v; give --hostname-override\n", err)
			return exitFailed
		}
		config.NodeName = name
	}
	faults := config.Validate()
	if *kubeconfig == "" {
		faults = errors.Join(errors.New("--kubeconfig: must name a file"), faults)
	}
	if faults != nil {
		fmt.Fprintf(stderr, "agent: %v\n", faults)
		return exitBadInput
	}
	fmt.Fprintln(stderr, "agent: this build has no container runtime yet; Docker Engine is to come")
	return exitFailed
}
