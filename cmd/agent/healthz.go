package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// healthzOptions say where /healthz is served.
type healthzOptions struct {
	address string
	// port 0 serves nowhere.
	port int
}

// healthzHandler answers /healthz: "ok", or 500 and what is wrong.
func healthzHandler(healthy func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := healthy(); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprintf(w, "healthz check failed: %v\n", err)
			return
		}
		// Who asks may be gone.
		_, _ = io.WriteString(w, "ok")
	})
	return mux
}

// serveHealthz serves /healthz until stop is called, which waits for the end.
func serveHealthz(o healthzOptions, healthy func() error, log *slog.Logger) (stop func(), err error) {
	if o.port == 0 {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(o.address, strconv.Itoa(o.port)))
	if err != nil {
		return nil, fmt.Errorf("serving /healthz: %w; give --healthz-port another port, or 0", err)
	}
	server := &http.Server{Handler: healthzHandler(healthy), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("Serving /healthz ended", "err", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}, nil
}
