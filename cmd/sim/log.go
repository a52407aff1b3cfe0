package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
)

// logFlags say where the cluster's log goes.
type logFlags struct {
	verbose bool
	file    string
}

func (f *logFlags) add(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "write the cluster's log to standard error")
	flags.StringVar(&f.file, "log-file", "", "write all that the cluster and the control plane log to this file")
}

// open returns the logger, and a function that closes its file.
func (f *logFlags) open(stderr io.Writer) (*slog.Logger, func(), error) {
	if f.file != "" {
		file, err := os.Create(f.file)
		if err != nil {
			return nil, nil, exit(exitInput, fmt.Errorf("--log-file: %w", err))
		}
		handler := slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug})
		return slog.New(handler), func() { file.Close() }, nil
	}
	if !f.verbose {
		return slog.New(slog.DiscardHandler), func() {}, nil
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelInfo})), func() {}, nil
}
