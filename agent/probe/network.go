package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxBody bounds what is read of a response, in bytes.
const maxBody = 10 << 10

// maxRedirects is how many redirects a probe follows within its host.
const maxRedirects = 10

// Network is the Target of a real node: it probes pods over the node's network.
type Network struct {
	userAgent string
	// hookAgent is the user agent of hooks.
	hookAgent string
	transport *http.Transport
}

var _ Target = (*Network)(nil)

// NewNetwork returns a Network that presents itself as the kubelet of a
// version, such as "v1.37.2", does.
func NewNetwork(version string) *Network {
	return &Network{
		userAgent: "kube-probe/" + majorMinor(version),
		hookAgent: "kube-lifecycle/" + majorMinor(version),
		transport: &http.Transport{
			// A container's certificate says nothing to the node.
			TLSClientConfig:     &tls.Config{InsecureSkipVerify: true},
			TLSHandshakeTimeout: 10 * time.Second,
			DialContext:         dial,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
			// Every probe makes its own connection, as a client would, and
			// goes past the node's proxy.
			DisableKeepAlives: true,
		},
	}
}

// majorMinor is "1.37" of "v1.37.2".
func majorMinor(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}

// Probe implements Target.
func (n *Network) Probe(ctx context.Context, r Request) (ok bool, output string, err error) {
	switch h := &r.Probe.ProbeHandler; {
	case h.HTTPGet != nil:
		return n.http(ctx, r, h.HTTPGet)
	case h.TCPSocket != nil:
		return tcp(ctx, r, h.TCPSocket)
	case h.GRPC != nil:
		return n.grpc(ctx, r, h.GRPC)
	}
	return false, "", fmt.Errorf("missing probe handler for %s_%s(%s):%s",
		r.Pod.Name, r.Pod.Namespace, r.Pod.UID, r.Container.Name)
}

// dial connects without leaving sockets behind: closed ones linger for a second
// instead of the system's minute, for there are many.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if t, ok := conn.(*net.TCPConn); ok {
		// Where it cannot be set, the socket lingers longer and nothing else.
		_ = t.SetLinger(1)
	}
	return conn, nil
}

func tcp(ctx context.Context, r Request, action *v1.TCPSocketAction) (bool, string, error) {
	port, err := portOf(action.Port, r.Container)
	if err != nil {
		return false, "", err
	}
	conn, err := dial(ctx, "tcp", address(action.Host, r.PodIP, port))
	if err != nil {
		return false, err.Error(), nil
	}
	// The container accepted, which was the question.
	_ = conn.Close()
	return true, "", nil
}

func (n *Network) http(ctx context.Context, r Request, action *v1.HTTPGetAction) (bool, string, error) {
	request, err := n.request(ctx, r, action, n.userAgent)
	if err != nil {
		return false, "", err
	}
	client := &http.Client{Transport: n.transport, CheckRedirect: withinHost}
	if deadline, ok := ctx.Deadline(); ok {
		// The client's own timeout comes first, for the sake of its message.
		client.Timeout = max(time.Until(deadline)-time.Millisecond, time.Millisecond)
	}
	response, err := client.Do(request)
	if err != nil {
		return false, err.Error(), nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	switch code := response.StatusCode; {
	case err != nil:
		return false, "", err
	case code < http.StatusOK || code >= http.StatusBadRequest:
		// Not the body: it may hold what a reader of events is not to see.
		return false, fmt.Sprintf("HTTP probe failed with statuscode: %d", code), nil
	case code >= http.StatusMultipleChoices:
		return true, "", Warning(fmt.Sprintf("Probe terminated redirects, Response body: %s", body))
	}
	return true, string(body), nil
}

// withinHost follows redirects within a host; one that leads elsewhere ends the
// probe there.
func withinHost(request *http.Request, via []*http.Request) error {
	if request.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	return nil
}

func (n *Network) request(ctx context.Context, r Request, action *v1.HTTPGetAction, userAgent string) (*http.Request, error) {
	port, err := portOf(action.Port, r.Container)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(action.Path)
	if err != nil {
		// What cannot be parsed is asked for as it stands.
		u = &url.URL{Path: action.Path}
	}
	u.Scheme, u.Host = "http", address(action.Host, r.PodIP, port)
	if action.Scheme != "" {
		u.Scheme = strings.ToLower(string(action.Scheme))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range action.HTTPHeaders {
		request.Header.Add(h.Name, h.Value)
	}
	request.Host = request.Header.Get("Host")
	if !has(request.Header, "User-Agent") {
		request.Header.Set("User-Agent", userAgent)
	}
	switch {
	case !has(request.Header, "Accept"):
		request.Header.Set("Accept", "*/*")
	case request.Header.Get("Accept") == "":
		// Given as empty: none is sent.
		request.Header.Del("Accept")
	}
	return request, nil
}

// address is host:port, with the pod's address for want of a host.
func address(host, podIP string, port int) string {
	if host == "" {
		host = podIP
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// portOf is the number of a port that is given by number or by name.
func portOf(port intstr.IntOrString, c *v1.Container) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		found := false
		for i := range c.Ports {
			if c.Ports[i].Name == port.StrVal {
				number, found = int(c.Ports[i].ContainerPort), true
				break
			}
		}
		if !found {
			return 0, fmt.Errorf("port %q not found", port.StrVal)
		}
	}
	if number < 1 || number > 65535 {
		return 0, errors.New("invalid port number: " + strconv.Itoa(number))
	}
	return number, nil
}

func has(h http.Header, name string) bool {
	_, ok := h[name]
	return ok
}
