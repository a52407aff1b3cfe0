package simcluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/test/bufconn"
)

// network is how the API server is reached: through pipes in memory by all that
// runs in this process, and through a TCP port on the loopback by people, if they
// asked for one. It is the net.Listener that the API server serves.
type network struct {
	memory *bufconn.Listener
	// tcp is nil without a port.
	tcp      net.Listener
	accepted chan net.Conn
	closed   chan struct{}
	// direct is how the API server is reached by all in this process in virtual
	// time; else nil.
	direct *directServer
	ports  atomic.Int32

	mu sync.Mutex
	// conns are the server's ends of all open connections. Guarded by mu.
	conns map[net.Conn]struct{}
	// stopped: new connections are closed at once. Guarded by mu.
	stopped bool
}

const (
	// pipeSize is how many bytes fit into each direction of a connection in
	// memory before its writer waits.
	pipeSize = 64 << 10
	// apiServerHost is the API server's name in URLs inside the process.
	apiServerHost = "kubernetes.default.svc"
	idleTimeout   = 90 * time.Second
	acceptRetry   = 10 * time.Millisecond
)

// memoryAddr is what the API server believes to listen on and its clients to
// come from: upstream insists on a TCP address.
var memoryAddr = net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 6443}

// listen opens the network; addr is the loopback port for people, or empty.
func listen(addr string) (*network, error) {
	n := &network{
		memory:   bufconn.Listen(pipeSize),
		accepted: make(chan net.Conn),
		closed:   make(chan struct{}),
		conns:    map[net.Conn]struct{}{},
	}
	if ClockAddress() != 0 {
		n.direct = newDirectServer()
	}
	if addr != "" {
		var err error
		if n.tcp, err = net.Listen("tcp", addr); err != nil {
			return nil, &OptionError{"Listen", fmt.Errorf("listening for kubectl on %s: %w", addr, rootCause(err))}
		}
		go n.acceptFrom(n.tcp)
	}
	go n.acceptFrom(n.memory)
	return n, nil
}

// rootCause is the innermost of err's chain: the operating system's own words.
func rootCause(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

func (n *network) acceptFrom(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			select {
			case <-n.closed:
				return
			case <-time.After(acceptRetry):
				// Out of file descriptors, most likely.
				continue
			}
		}
		if l == net.Listener(n.memory) {
			conn = &memoryConn{Conn: conn, remote: memoryAddr.IP, port: int(n.ports.Add(1))}
		}
		select {
		case n.accepted <- n.track(conn):
		case <-n.closed:
			conn.Close()
		}
	}
}

// Accept waits for the next connection from either side.
func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.accepted:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Addr is the loopback port's address, or one that nobody listens on.
func (n *network) Addr() net.Addr {
	if n.tcp != nil {
		return n.tcp.Addr()
	}
	return &memoryAddr
}

// Close stops listening. Open connections stay.
func (n *network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.closed:
		return nil
	default:
	}
	close(n.closed)
	n.memory.Close()
	if n.tcp != nil {
		return n.tcp.Close()
	}
	return nil
}

// hangUp closes all connections and those to come, so that no request can keep
// the API server from ending.
func (n *network) hangUp() {
	n.mu.Lock()
	n.stopped = true
	conns := n.conns
	n.conns = map[net.Conn]struct{}{}
	n.mu.Unlock()
	for conn := range conns {
		conn.Close()
	}
}

func (n *network) track(conn net.Conn) net.Conn {
	t := &trackedConn{Conn: conn, network: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		conn.Close()
	} else {
		n.conns[conn] = struct{}{}
	}
	return t
}

type trackedConn struct {
	net.Conn
	network *network
}

func (c *trackedConn) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c.Conn)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// memoryConn gives a pipe the addresses that the API server wants to parse.
type memoryConn struct {
	net.Conn
	remote net.IP
	port   int
}

func (c *memoryConn) LocalAddr() net.Addr  { return &memoryAddr }
func (c *memoryConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: c.remote, Port: c.port & 0xffff} }

// dial connects to the API server, whatever the address.
func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return n.memory.DialContext(ctx)
}

// newTransport returns a transport to the API server; it makes as many HTTP/2
// connections as the requests on it need. cert is who the connection is from,
// nil for nobody; serverName is the name whose certificate, signed by ca, the
// API server is to show.
func (n *network) newTransport(cert *tls.Certificate, ca []byte, serverName string) (http.RoundTripper, error) {
	if n.direct != nil {
		return n.direct.transport(cert)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in the authority's PEM data")
	}
	config := &tls.Config{RootCAs: pool, ServerName: serverName}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	return &http.Transport{
		DialContext:       n.dial,
		TLSClientConfig:   config,
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   idleTimeout,
		// Nothing is gained by compressing what does not leave the process.
		DisableCompression: true,
	}, nil
}
