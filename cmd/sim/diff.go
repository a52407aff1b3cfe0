package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"nodelet/internal/transcript"
)

func diffCommand(stdout io.Writer) *cobra.Command {
	var tolerance time.Duration
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two transcripts, and show the first difference",
		Args:  cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			a, err := readTranscript(args[0])
			if err != nil {
				return exit(exitInput, err)
			}
			b, err := readTranscript(args[1])
			if err != nil {
				return exit(exitInput, err)
			}
			if difference := transcript.Diff(a, b, tolerance); difference != "" {
				fmt.Fprintf(stdout, "--- %s\n+++ %s\n%s", args[0], args[1], difference)
				return exit(exitFailed, errTold)
			}
			fmt.Fprintf(stdout, "equal, %d lines\n", len(a))
			return nil
		},
	}
	cmd.Flags().DurationVar(&tolerance, "tolerance", 0, "how much earlier or later the same may happen to an object")
	return cmd
}

func readTranscript(file string) ([]transcript.Entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := transcript.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return entries, nil
}
