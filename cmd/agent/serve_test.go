package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// emptyRuntime is a runtime without pods.
type emptyRuntime struct{ podruntime.Runtime }

func (emptyRuntime) Status(context.Context) (podruntime.Status, error) {
	return podruntime.Status{Name: "test", Version: "1", Ready: true}, nil
}
func (emptyRuntime) ListPods(context.Context) ([]pod.Observed, error)       { return nil, nil }
func (emptyRuntime) ListImages(context.Context) ([]podruntime.Image, error) { return nil, nil }
func (emptyRuntime) Subscribe(func(pod.UID)) (cancel func())                { return func() {} }

// apiServer knows one node, and nothing else.
type apiServer struct {
	mu     sync.Mutex
	node   *v1.Node
	status int
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/api/v1/nodes":
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.node = object.(*v1.Node)
	case r.Method == http.MethodPatch && r.URL.Path == "/api/v1/nodes/n/status":
		s.status++
	case r.Method == http.MethodGet && r.URL.Path == "/api/v1/nodes/n":
	default:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(apierrors.NewNotFound(schema.GroupResource{}, r.URL.Path).Status())
		return
	}
	s.node.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}
	_ = json.NewEncoder(w).Encode(s.node)
}

func (s *apiServer) known() (*v1.Node, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.node, s.status
}

// The whole command but for its runtime: this machine registers with an API
// server, is healthy, and ends when it is told to.
func TestServe(t *testing.T) {
	api := &apiServer{}
	server := httptest.NewServer(api)
	defer server.Close()
	o, _, err := parse(append(nodeArgs(t, server.URL), "--max-pods", "7", "--eviction-hard", "", "--healthz-port", freePort(t),
		"--cloud-provider", "external", "--node-ip", ownIP(t)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- serve(ctx, s, emptyRuntime{}, slog.New(slog.DiscardHandler)) }()
	healthz := fmt.Sprintf("http://127.0.0.1:%d/healthz", s.healthz.port)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, status := api.known(); status > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no status was written")
		}
	}
	response, err := http.Get(healthz)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK || string(body) != "ok" {
		t.Errorf("%s: %d %q, %v", healthz, response.StatusCode, body, err)
	}
	n, _ := api.known()
	if n.Name != "n" || n.Status.Capacity.Pods().Value() != 7 || n.Status.Capacity.Memory().Value() < 1<<20 || n.Status.NodeInfo.KernelVersion == "" ||
		n.Status.Addresses[0].Address != ownIP(t) || n.Annotations["alpha.kubernetes.io/provided-node-ip"] != ownIP(t) || len(n.Spec.Taints) != 1 || n.Annotations["volumes.kubernetes.io/controller-managed-attach-detach"] != "true" {
		t.Errorf("node %+v", n)
	}

	// Two agents cannot serve one port.
	if err := serve(ctx, s, emptyRuntime{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "--healthz-port") {
		t.Errorf("a taken port: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(healthz); err == nil {
		t.Error("/healthz is served after the end")
	}
}

// ownIP is an address of this machine.
func ownIP(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but its loopback's")
	return ""
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// More cannot be held back than the machine has: that is for the user to mend.
func TestServeChecksTheMachine(t *testing.T) {
	o, _, err := parse(append(nodeArgs(t, "http://192.0.2.1"), "--system-reserved", "cpu=1M,memory=1Ei"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := o.settle()
	if err != nil {
		t.Fatal(err)
	}
	err = serve(t.Context(), s, emptyRuntime{}, slog.New(slog.DiscardHandler))
	if bad := (badInput{}); !errors.As(err, &bad) || strings.Count(err.Error(), "are reserved") != 2 {
		t.Errorf("serve: %v", err)
	}
}

func TestHealthz(t *testing.T) {
	var broken error
	handler := healthzHandler(func() error { return broken })
	ask := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		return w
	}
	if w := ask("GET", "/healthz"); w.Code != 200 || w.Body.String() != "ok" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	broken = errors.New("the node's status was not looked at for 5m0s")
	if w := ask("GET", "/healthz"); w.Code != 500 || !strings.Contains(w.Body.String(), broken.Error()) {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := ask("GET", "/metrics"); w.Code != 404 {
		t.Errorf("another path: %d", w.Code)
	}
	if w := ask("POST", "/healthz"); w.Code != 405 {
		t.Errorf("POST: %d", w.Code)
	}
}

// The libraries' log goes where the agent's goes, in its format and as detailed.
// The loggers are the process's own, and agents of other tests may still use
// them: the test has a process to itself.
func TestLog(t *testing.T) {
	const inner = "NODELET_TEST_LOG"
	if os.Getenv(inner) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLog$")
		cmd.Env = append(os.Environ(), inner+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, test := range []struct {
		o    logOptions
		want []string
		not  []string
	}{
		{logOptions{format: logText}, []string{"level=INFO msg=ours", "msg=theirs"}, []string{"detail", "debugging"}},
		{logOptions{format: logText, verbosity: 2}, []string{"msg=ours", "msg=detail"}, []string{"debugging"}},
		{logOptions{format: logJSON, verbosity: 4}, []string{`"msg":"ours"`, `"msg":"theirs"`, `"msg":"detail"`, `"msg":"debugging"`, `"level":"DEBUG"`}, nil},
	} {
		var out bytes.Buffer
		log := newLogger(test.o, &out)
		if err := setLogger(log, test.o.verbosity); err != nil {
			t.Fatal(err)
		}
		log.Info("ours")
		klog.InfoS("theirs")
		klog.V(2).InfoS("detail")
		log.Debug("debugging")
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v: no %q in\n%s", test.o, want, &out)
			}
		}
		for _, not := range test.not {
			if strings.Contains(out.String(), not) {
				t.Errorf("%+v: %q in\n%s", test.o, not, &out)
			}
		}
	}
}
