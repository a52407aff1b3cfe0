package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	health "google.golang.org/grpc/health/grpc_health_v1"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"nodelet/agent/pod"
)

// probeOnce probes 127.0.0.1 with the port named "p" being port.
func probeOnce(t *testing.T, port int, handler v1.ProbeHandler) (bool, string, error) {
	t.Helper()
	spec := &v1.Probe{ProbeHandler: handler, TimeoutSeconds: 5}
	ctx, cancel := context.WithTimeout(t.Context(), timeout(spec))
	defer cancel()
	return NewNetwork("v1.37.2").Probe(ctx, Request{Pod: &v1.Pod{}, PodIP: "127.0.0.1", Kind: pod.Readiness, Probe: spec,
		Container: &v1.Container{Name: "a", Ports: []v1.ContainerPort{{Name: "p", ContainerPort: int32(port)}}}})
}

func portOfServer(t *testing.T, address net.Addr) int {
	t.Helper()
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		t.Fatalf("listening on %v", address)
	}
	return tcp.Port
}

// closedPort is a port that nothing listens on.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOfServer(t, l.Addr())
}

func want(t *testing.T, ok bool, output string, err error, wantOK bool, wantOutput, wantErr string) {
	t.Helper()
	got := ""
	if err != nil {
		got = err.Error()
	}
	if ok != wantOK || output != wantOutput || got != wantErr {
		t.Errorf("%v, %q, error %q\nwant %v, %q, error %q", ok, output, got, wantOK, wantOutput, wantErr)
	}
}

// web answers by path.
func web(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ok":
		fmt.Fprint(w, "fine")
	case "/big":
		fmt.Fprint(w, strings.Repeat("x", 3*maxBody))
	case "/sick":
		http.Error(w, "secret", http.StatusServiceUnavailable)
	case "/near":
		http.Redirect(w, r, "/ok", http.StatusFound)
	case "/far":
		w.Header().Set("Location", "http://elsewhere.invalid/")
		w.WriteHeader(http.StatusFound)
		fmt.Fprint(w, "over there")
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/query":
		fmt.Fprint(w, r.URL.RawQuery)
	case "/cut":
		w.Header().Set("Content-Length", "10")
		fmt.Fprint(w, "cut")
	case "/headers":
		fmt.Fprintf(w, "%s|%s|%s|%s|%s", r.Host, r.Header.Get("User-Agent"), r.Header["Accept"], r.Header["X"], r.Header["Accept-Encoding"])
	default:
		http.NotFound(w, r)
	}
}

func TestHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(web))
	defer server.Close()
	port := portOfServer(t, server.Listener.Addr())
	closed := closedPort(t)
	host := fmt.Sprintf("127.0.0.1:%d", port)
	header := func(pairs ...string) (headers []v1.HTTPHeader) {
		for i := 0; i < len(pairs); i += 2 {
			headers = append(headers, v1.HTTPHeader{Name: pairs[i], Value: pairs[i+1]})
		}
		return headers
	}
	named := intstr.FromString("p")
	for _, test := range []struct {
		name   string
		action v1.HTTPGetAction
		ok     bool
		output string
		err    string
	}{
		{name: "ok", action: v1.HTTPGetAction{Path: "/ok", Port: named}, ok: true, output: "fine"},
		{name: "port by number", action: v1.HTTPGetAction{Path: "ok", Port: intstr.FromInt(port)}, ok: true, output: "fine"},
		{name: "query", action: v1.HTTPGetAction{Path: "/query?a=b", Port: named}, ok: true, output: "a=b"},
		{name: "body is cut", action: v1.HTTPGetAction{Path: "/big", Port: named}, ok: true, output: strings.Repeat("x", maxBody)},
		{name: "failure without the body", action: v1.HTTPGetAction{Path: "/sick", Port: named},
			output: "HTTP probe failed with statuscode: 503"},
		{name: "path that is no URL", action: v1.HTTPGetAction{Path: "/%zz", Port: named},
			output: "HTTP probe failed with statuscode: 404"},
		{name: "redirect", action: v1.HTTPGetAction{Path: "/near", Port: named}, ok: true, output: "fine"},
		{name: "redirect to another host", action: v1.HTTPGetAction{Path: "/far", Port: named}, ok: true,
			err: "Probe terminated redirects, Response body: over there"},
		{name: "redirects without end", action: v1.HTTPGetAction{Path: "/loop", Port: named},
			output: `Get "/loop": stopped after 10 redirects`},
		{name: "body that breaks off", action: v1.HTTPGetAction{Path: "/cut", Port: named}, err: "unexpected EOF"},
		{name: "headers", action: v1.HTTPGetAction{Path: "/headers", Port: named}, ok: true,
			output: host + "|kube-probe/1.37|[*/*]|[]|[]"},
		{name: "own headers", action: v1.HTTPGetAction{Path: "/headers", Port: named,
			HTTPHeaders: header("Host", "me", "User-Agent", "ua", "Accept", "text", "X", "1", "x", "2")}, ok: true,
			output: "me|ua|[text]|[1 2]|[]"},
		{name: "no accept header", action: v1.HTTPGetAction{Path: "/headers", Port: named, HTTPHeaders: header("Accept", "")}, ok: true,
			output: host + "|kube-probe/1.37|[]|[]|[]"},
		{name: "refused", action: v1.HTTPGetAction{Path: "/ok", Port: intstr.FromInt(closed)},
			output: fmt.Sprintf(`Get "http://127.0.0.1:%d/ok": dial tcp 127.0.0.1:%d: connect: connection refused`, closed, closed)},
		{name: "no such port", action: v1.HTTPGetAction{Port: intstr.FromString("q")}, err: `port "q" not found`},
		{name: "bad port", action: v1.HTTPGetAction{Port: intstr.FromInt32(70000)}, err: "invalid port number: 70000"},
		{name: "host of its own", action: v1.HTTPGetAction{Host: "localhost", Path: "/headers", Port: named}, ok: true,
			output: fmt.Sprintf("localhost:%d|kube-probe/1.37|[*/*]|[]|[]", port)},
		{name: "scheme", action: v1.HTTPGetAction{Path: "/ok", Port: named, Scheme: v1.URISchemeHTTPS},
			output: fmt.Sprintf(`Get "https://%s/ok": http: server gave HTTP response to HTTPS client`, host)},
	} {
		t.Run(test.name, func(t *testing.T) {
			ok, output, err := probeOnce(t, port, v1.ProbeHandler{HTTPGet: &test.action})
			want(t, ok, output, err, test.ok, test.output, test.err)
		})
	}
}

// TestHTTPS: the certificate is nobody's.
func TestHTTPS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(web))
	defer server.Close()
	ok, output, err := probeOnce(t, portOfServer(t, server.Listener.Addr()), v1.ProbeHandler{
		HTTPGet: &v1.HTTPGetAction{Path: "/ok", Scheme: v1.URISchemeHTTPS, Port: intstr.FromString("p")}})
	want(t, ok, output, err, true, "fine", "")
}

func TestHTTPTimeout(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ok, output, err := NewNetwork("v1.37.2").Probe(ctx, Request{PodIP: "127.0.0.1", Container: &v1.Container{}, Probe: &v1.Probe{
		ProbeHandler: v1.ProbeHandler{HTTPGet: &v1.HTTPGetAction{Path: "/x",
			Port: intstr.FromInt(portOfServer(t, server.Listener.Addr()))}}}})
	want(t, ok, output, err, false, fmt.Sprintf(
		`Get "%s/x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`, server.URL), "")
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := closedPort(t)
	for _, test := range []struct {
		name   string
		action v1.TCPSocketAction
		ok     bool
		output string
		err    string
	}{
		{name: "open", action: v1.TCPSocketAction{Port: intstr.FromString("p")}, ok: true},
		{name: "host", action: v1.TCPSocketAction{Host: "localhost", Port: intstr.FromString("p")}, ok: true},
		{name: "closed", action: v1.TCPSocketAction{Port: intstr.FromInt(closed)},
			output: fmt.Sprintf("dial tcp 127.0.0.1:%d: connect: connection refused", closed)},
		{name: "no such port", action: v1.TCPSocketAction{Port: intstr.FromString("q")}, err: `port "q" not found`},
	} {
		t.Run(test.name, func(t *testing.T) {
			ok, output, err := probeOnce(t, portOfServer(t, l.Addr()), v1.ProbeHandler{TCPSocket: &test.action})
			want(t, ok, output, err, test.ok, test.output, test.err)
		})
	}
}

// doctor is a gRPC health service that knows a service "sick".
type doctor struct {
	health.UnimplementedHealthServer
}

func (d doctor) Check(_ context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if r.Service == "sick" {
		return &health.HealthCheckResponse{Status: health.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}, nil
}

// serveGRPC serves what register registers and returns the port.
func serveGRPC(t *testing.T, register func(*grpc.Server)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return portOfServer(t, l.Addr())
}

func TestGRPC(t *testing.T) {
	good := serveGRPC(t, func(s *grpc.Server) { health.RegisterHealthServer(s, doctor{}) })
	none := serveGRPC(t, func(*grpc.Server) {})
	closed := closedPort(t)
	sick, long := "sick", 10*time.Second
	for _, test := range []struct {
		name    string
		port    int
		service *string
		timeout time.Duration
		ok      bool
		output  string
	}{
		{name: "serving", port: good, timeout: long, ok: true, output: "service healthy"},
		{name: "not serving", port: good, timeout: long, service: &sick, output: `service unhealthy (responded with "NOT_SERVING")`},
		{name: "not implemented", port: none, timeout: long, output: "error: this server does not implement the grpc health protocol " +
			"(grpc.health.v1.Health): unknown service grpc.health.v1.Health"},
		{name: "refused", port: closed, timeout: 50 * time.Millisecond,
			output: fmt.Sprintf(`timeout: failed to connect service "127.0.0.1:%d" within 1s: context deadline exceeded`, closed)},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
			defer cancel()
			ok, output, err := NewNetwork("v1.37.2").Probe(ctx, Request{PodIP: "127.0.0.1", Probe: &v1.Probe{ProbeHandler: v1.ProbeHandler{
				GRPC: &v1.GRPCAction{Port: int32(test.port), Service: test.service}}}})
			want(t, ok, output, err, test.ok, test.output, "")
		})
	}
}

func TestNoHandler(t *testing.T) {
	ok, output, err := probeOnce(t, 1, v1.ProbeHandler{})
	want(t, ok, output, err, false, "", "missing probe handler for _():a")
}
