package simcluster

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

// user is who a request over the in-memory network comes from.
type user struct {
	name   string
	groups []string
}

// The users that simcluster itself acts as. The API server adds the group
// system:authenticated.
var (
	adminUser             = user{"kubernetes-admin", []string{"system:masters"}}
	controllerManagerUser = user{"system:kube-controller-manager", nil}
	schedulerUser         = user{"system:kube-scheduler", nil}
)

func nodeUser(name string) user {
	return user{"system:node:" + name, []string{"system:nodes"}}
}

// controllerUser is the service account that a controller acts as when the
// controller manager uses service account credentials.
func controllerUser(name string) user {
	return user{"system:serviceaccount:kube-system:" + name,
		[]string{"system:serviceaccounts", "system:serviceaccounts:kube-system"}}
}

// frontProxy holds the connections to the API server that everybody shares.
type frontProxy struct {
	network *network
	cert    tls.Certificate
	ca      []byte

	mu sync.Mutex
	// transports by group of clients. Guarded by mu.
	transports map[string]http.RoundTripper
}

func newFrontProxy(n *network, c *certificates) (*frontProxy, error) {
	cert, err := tls.X509KeyPair(c.front.cert, c.front.key)
	if err != nil {
		return nil, fmt.Errorf("reading the front proxy's certificate: %w", err)
	}
	return &frontProxy{network: n, cert: cert, ca: c.ca.cert, transports: map[string]http.RoundTripper{}}, nil
}

// config is a client configuration for the given user. Clients of one group
// share connections.
func (p *frontProxy) config(u user, group string) (*rest.Config, error) {
	transport, err := p.transport(group)
	if err != nil {
		return nil, err
	}
	return &rest.Config{
		Host:      "https://" + apiServerHost,
		Transport: &asUser{next: transport, user: u},
		// The API server's own fairness is the only limit.
		QPS: -1,
	}, nil
}

func (p *frontProxy) transport(group string) (http.RoundTripper, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t, ok := p.transports[group]; ok {
		return t, nil
	}
	t, err := p.network.newTransport(&p.cert, p.ca, apiServerHost)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	p.transports[group] = t
	return t, nil
}

// close drops the idle connections.
func (p *frontProxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.transports {
		utilnet.CloseIdleConnectionsFor(t)
	}
}

// userAgent is a component's user agent. It is also the manager's name that the
// API server notes in managed fields, so it must not be this process's.
func userAgent(component, suffix string) string {
	_, version, _ := strings.Cut(rest.DefaultKubernetesUserAgent(), "/")
	if suffix == "" {
		return component + "/" + version
	}
	return component + "/" + version + "/" + suffix
}
