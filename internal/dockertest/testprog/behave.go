package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

// behavior is what becomes of an incarnation, the part of fakeruntime.Behavior that
// a process can do.
type behavior struct {
	Exits              bool
	ExitAfter          latency
	ExitCode           int
	TerminationMessage string
	OOMAfter           time.Duration
	Stop               latency
	StopExitCode       int
	IgnoreSIGTERM      bool
	ReadyAfter         latency
	UnreadyAfter       time.Duration
	UnreadyFor         time.Duration
	FailLivenessAfter  time.Duration
	Logs               []string
}

type latency struct{ Min, Max time.Duration }

func (l latency) time() time.Duration { return max(l.Min, l.Max) }

// behaving is an incarnation that does as FILE says, which may change meanwhile.
type behaving struct {
	file    string
	attempt int
	began   time.Time
}

// behave FILE PORT KIND=HOW… does what FILE says: a list of behaviours, one for each
// incarnation, the last one for all later ones. The probes named, such as
// liveness=http, are answered on PORT and the following, in the order of the
// arguments.
func behave(args []string) int {
	b := &behaving{file: args[0], began: time.Now()}
	data, _ := os.ReadFile(b.file + ".attempt")
	b.attempt, _ = strconv.Atoi(string(data))
	if err := os.WriteFile(b.file+".attempt", []byte(strconv.Itoa(b.attempt+1)), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	port, _ := strconv.Atoi(args[1])
	for i, probe := range args[2:] {
		kind, how, _ := strings.Cut(probe, "=")
		go b.answer(kind, how, fmt.Sprintf(":%d", port+i))
	}
	for _, line := range b.now().Logs {
		fmt.Println(line)
	}
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		does, age := b.now(), time.Since(b.began)
		switch {
		case does.OOMAfter > 0 && age >= does.OOMAfter:
			return oom(nil)
		case does.Exits && age >= does.ExitAfter.time():
			if does.TerminationMessage != "" {
				_ = os.WriteFile("/dev/termination-log", []byte(does.TerminationMessage), 0o644)
			}
			return does.ExitCode
		}
		select {
		case <-tick.C:
		case <-signals:
			if !does.IgnoreSIGTERM {
				time.Sleep(does.Stop.time())
				return does.StopExitCode
			}
		}
	}
}

// now is what the incarnation is to do now. Without a file it runs for ever.
func (b *behaving) now() (does behavior) {
	var all []behavior
	data, err := os.ReadFile(b.file)
	if err == nil && json.Unmarshal(data, &all) == nil && len(all) > 0 {
		does = all[min(b.attempt, len(all)-1)]
	}
	return does
}

// healthy is what a probe of a kind is to find.
func (b *behaving) healthy(kind string) bool {
	does, age := b.now(), time.Since(b.began)
	switch {
	case kind == "liveness":
		return does.FailLivenessAfter <= 0 || age < does.FailLivenessAfter
	case age < does.ReadyAfter.time():
		return false
	case kind == "startup" || does.UnreadyAfter <= 0 || age < does.UnreadyAfter:
		return true
	}
	return does.UnreadyFor > 0 && age >= does.UnreadyAfter+does.UnreadyFor
}

// answer answers the probes of one kind: over HTTP or gRPC as it is, over TCP by
// having its port closed.
func (b *behaving) answer(kind, how, address string) {
	switch how {
	case "tcp":
		b.listen(kind, address)
	case "grpc":
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		server := grpc.NewServer()
		health.RegisterHealthServer(server, &healthServer{of: func() bool { return b.healthy(kind) }})
		fmt.Fprintln(os.Stderr, server.Serve(l))
	default:
		fmt.Fprintln(os.Stderr, http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !b.healthy(kind) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})))
	}
}

func (b *behaving) listen(kind, address string) {
	var l net.Listener
	for ; ; time.Sleep(50 * time.Millisecond) {
		switch healthy := b.healthy(kind); {
		case healthy && l == nil:
			l, _ = net.Listen("tcp", address)
		case !healthy && l != nil:
			l.Close()
			l = nil
		}
	}
}

// healthServer is gRPC's health service.
type healthServer struct {
	health.UnimplementedHealthServer
	of func() bool
}

// Check implements health.HealthServer.
func (s *healthServer) Check(context.Context, *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if s.of() {
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, nil
}

// check URL ends well if it answers so.
func check(args []string) int {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		fmt.Println(response.Status)
		return 1
	}
	return 0
}
