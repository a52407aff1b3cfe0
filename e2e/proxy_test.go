package e2e

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between the agent and the engine: it counts requests and can
// stop the world at one that changes something.
type proxy struct {
	endpoint string
	server   *http.Server

	mu sync.Mutex
	// requests are counted by what they ask for.
	requests map[string]int
	// left is how many changes are let pass before the stop; negative for all.
	left int
	// late lets the last one pass too, but not its answer.
	late    bool
	stopped chan struct{}
}

// newProxy starts a proxy in front of the cluster's engine.
func (c *cluster) newProxy(t testing.TB) *proxy {
	t.Helper()
	path := c.path("proxy.sock")
	_ = os.Remove(path)
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	engine := strings.TrimPrefix(c.engine.Endpoint, "unix://")
	p := &proxy{endpoint: "unix://" + path, requests: map[string]int{}, left: -1}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "docker"})
	forward.FlushInterval = -1
	forward.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}}
	// Requests that are cut off are the point.
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, forward) })}
	go func() { _ = p.server.Serve(listener) }()
	t.Cleanup(func() { p.server.Close() })
	return p
}

var ids = regexp.MustCompile(`^/v[0-9.]+|[0-9a-f]{64}|k8s_[^/]*`)

func (p *proxy) serve(w http.ResponseWriter, r *http.Request, forward http.Handler) {
	change := r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.HasSuffix(r.URL.Path, "/wait")
	p.mu.Lock()
	p.requests[r.Method+" "+ids.ReplaceAllString(r.URL.Path, "")]++
	hold, pass := false, true
	if change && p.left >= 0 {
		if p.left == 0 {
			hold, pass = true, p.late
			if p.stopped != nil {
				close(p.stopped)
				p.stopped = nil
			} else {
				pass = false
			}
		} else {
			p.left--
		}
	}
	p.mu.Unlock()
	if !hold {
		forward.ServeHTTP(w, r)
		return
	}
	if pass {
		// The engine does it, whoever waits for the answer.
		forward.ServeHTTP(discard{}, r.WithContext(context.WithoutCancel(r.Context())))
	}
	<-r.Context().Done()
}

// discard is an answer that nobody hears.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// stopAt has the world stop at the n-th change from now on, before it or, where
// late, after it. The channel is closed then.
func (p *proxy) stopAt(n int, late bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.late = n, late
	p.stopped = make(chan struct{})
	return p.stopped
}

// letPass ends the stop.
func (p *proxy) letPass() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.stopped = -1, nil
}

// take returns what was asked since the last call.
func (p *proxy) take() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.requests
	p.requests = map[string]int{}
	return all
}

// The agent is killed at each change that it makes in the engine while a pod
// starts, just before and just after it. Whatever it finds, the pod runs then,
// once, and nothing that ran is touched.
func TestKillAtEveryStep(t *testing.T) {
	c := start(t)
	p := c.newProxy(t)
	c.agent.kill()
	c.startAgent(t, "--docker-endpoint", p.endpoint)
	// After the namespaces are gone.
	t.Cleanup(c.agent.kill)
	steps := 0
	for n := 0; ; n++ {
		for _, late := range []bool{false, true} {
			ns := c.namespace(t, "step")
			stopped := p.stopAt(n, late)
			c.apply(t, ns, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"app":"p"}},"spec":{"terminationGracePeriodSeconds":0,
				"volumes":[{"name":"v","emptyDir":{"medium":"Memory"}}],
				"containers":[{"name":"a","image":"e2e.test/app:1","volumeMounts":[{"name":"v","mountPath":"/v"}]},
				{"name":"b","image":"e2e.test/app:1","args":["print","x"]}]}}`)
			select {
			case <-stopped:
			case <-time.After(10 * time.Second):
				// The pod has started with fewer changes.
				p.letPass()
				c.ready(t, ns, "app=p", 1)
				if steps < 12 {
					t.Errorf("only %d steps were found", steps)
				}
				return
			}
			steps++
			time.Sleep(50 * time.Millisecond)
			ran := c.identities(t, ns)
			c.agent.kill()
			p.letPass()
			c.startAgent(t, "--docker-endpoint", p.endpoint)
			pods := c.ready(t, ns, "app=p", 1)
			now := c.identities(t, ns)
			if len(now) != 3 || restarts(pods) != 0 {
				t.Errorf("killed at change %d (late: %v): %d containers, want 3; %d restarts, want none:\n%s\n%s",
					n, late, len(now), restarts(pods), lines(now), describe(pods))
			}
			for key, id := range ran {
				if !strings.Contains(key, " ") && now[key] != id {
					t.Errorf("killed at change %d (late: %v): %s was replaced", n, late, key)
				}
			}
		}
	}
}
