package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"k8s.io/klog/v2"
)

// Formats of the log.
const (
	logText = "text"
	logJSON = "json"
)

// logOptions say what is logged and how.
type logOptions struct {
	// verbosity is Kubernetes' level of detail: 0 and up.
	verbosity int
	format    string
}

// newLogger returns the log of the process. Level 4 of Kubernetes is slog's
// debug level, as go-logr has it.
func newLogger(o logOptions, w io.Writer) *slog.Logger {
	handler := &slog.HandlerOptions{Level: slog.Level(-o.verbosity)}
	if o.format == logJSON {
		return slog.New(slog.NewJSONHandler(w, handler))
	}
	return slog.New(slog.NewTextHandler(w, handler))
}

// setLogger makes log the logger of the libraries too: client-go's klog and the
// standard library's. Both are the process's own, so this is for main.
func setLogger(log *slog.Logger, verbosity int) error {
	slog.SetDefault(log)
	var flags flag.FlagSet
	klog.InitFlags(&flags)
	if err := flags.Set("v", strconv.Itoa(verbosity)); err != nil {
		return fmt.Errorf("setting klog's verbosity: %w", err)
	}
	klog.SetSlogLogger(log)
	return nil
}
