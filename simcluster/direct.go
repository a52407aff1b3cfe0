package simcluster

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
)

// directServer is the API server as something to call: requests go to its handler
// without a connection, TLS and HTTP/2 in between, which would be most of the work of
// a small request. It is for virtual time; what the API server does with a request
// is the same.
type directServer struct {
	// serving is closed when there is a handler.
	serving chan struct{}
	handler http.Handler
}

func newDirectServer() *directServer { return &directServer{serving: make(chan struct{})} }

// serve is called once, with the API server's handler.
func (s *directServer) serve(handler http.Handler) {
	s.handler = handler
	close(s.serving)
}

// directTransport is an http.RoundTripper to a directServer.
type directTransport struct {
	server *directServer
	tls    *tls.ConnectionState
}

// transport returns a transport whose requests come from cert, or nobody if it is
// nil.
func (s *directServer) transport(cert *tls.Certificate) (*directTransport, error) {
	state := &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true}
	if cert != nil {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			return nil, fmt.Errorf("reading a client certificate: %w", err)
		}
		state.PeerCertificates = []*x509.Certificate{leaf}
	}
	return &directTransport{s, state}, nil
}

// RoundTrip implements http.RoundTripper.
func (t *directTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	select {
	case <-t.server.serving:
	case <-req.Context().Done():
		closeBody(req)
		return nil, req.Context().Err()
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &directResponse{header: http.Header{}, ready: make(chan struct{}), gone: ctx.Done()}
	w.changed.L = &w.mu
	stop := context.AfterFunc(req.Context(), func() {
		cancel()
		w.end(req.Context().Err())
	})
	go func() {
		// The handler's end is the end of its context.
		defer cancel()
		t.handle(t.incoming(ctx, req), w)
	}()
	<-w.ready
	status, header, err := w.beginning()
	if status == 0 {
		stop()
		return nil, err
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil {
		length = n
	}
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, ContentLength: length, Request: req,
		Body: &directBody{w, func() { stop(); cancel() }},
	}, nil
}

// incoming is a request as the API server sees it.
func (t *directTransport) incoming(ctx context.Context, req *http.Request) *http.Request {
	in := &http.Request{
		Method: req.Method, RequestURI: req.URL.RequestURI(),
		URL:  &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath, RawQuery: req.URL.RawQuery},
		Host: cmp.Or(req.Host, req.URL.Host), Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: req.Header.Clone(), Body: req.Body, ContentLength: req.ContentLength,
		RemoteAddr: memoryAddr.String(), TLS: t.tls,
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	return in.WithContext(ctx)
}

// handle has the API server answer a request.
func (t *directTransport) handle(req *http.Request, w *directResponse) {
	defer req.Body.Close()
	defer func() {
		if p := recover(); p != nil {
			// The API server's own handler has told of it.
			w.end(fmt.Errorf("%s %s was broken off: %v", req.Method, req.RequestURI, p))
			return
		}
		w.Flush()
		w.end(io.EOF)
	}()
	t.server.handler.ServeHTTP(w, req)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

const (
	// directBuffered is from how many bytes on a response is sent that nobody has
	// flushed, directAhead how many bytes may wait to be read.
	directBuffered = 4 << 10
	directAhead    = pipeSize
)

// directResponse is an http.ResponseWriter whose other end is read by whoever made
// the request. The handler uses its methods from one goroutine at a time.
type directResponse struct {
	// header is the handler's.
	header http.Header
	// ready is closed when the response begins, or when there will be none.
	ready chan struct{}
	// gone is closed when the one who asked has lost interest.
	gone <-chan struct{}

	mu sync.Mutex
	// changed is told when something can be read, was read, or the end has come.
	changed sync.Cond
	// status and sent are the response's, settled when ready is closed. Guarded
	// by mu.
	status int
	sent   http.Header
	begun  bool
	// data waits to be read. Guarded by mu.
	data bytes.Buffer
	// err is the end: io.EOF for a response that is whole. Guarded by mu.
	err error
}

// Header implements http.ResponseWriter.
func (w *directResponse) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *directResponse) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(status)
}

func (w *directResponse) settle(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status, w.sent = status, w.header.Clone()
	}
}

// Write implements http.ResponseWriter. It waits while much is unread.
func (w *directResponse) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(http.StatusOK)
	for w.data.Len() >= directAhead && w.err == nil {
		w.changed.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	n, _ := w.data.Write(p)
	if w.begun {
		w.changed.Broadcast()
	} else if w.data.Len() >= directBuffered {
		w.begin()
	}
	return n, nil
}

// Flush implements http.Flusher.
func (w *directResponse) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settle(http.StatusOK)
	w.begin()
}

// CloseNotify tells when nobody waits for the response any more, as HTTP/2's
// response writers do: upstream looks for it.
func (w *directResponse) CloseNotify() <-chan bool {
	closed := make(chan bool, 1)
	go func() {
		<-w.gone
		closed <- true
	}()
	return closed
}

func (w *directResponse) begin() {
	if !w.begun {
		w.begun = true
		close(w.ready)
	}
}

// end ends the response with err; the first end counts.
func (w *directResponse) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.begin()
	w.changed.Broadcast()
}

// beginning is the response's status and header, or why there will be none.
func (w *directResponse) beginning() (status int, header http.Header, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, w.sent, w.err
}

// read is for the one who asked.
func (w *directResponse) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.data.Len() == 0 && w.err == nil {
		w.changed.Wait()
	}
	if w.err != nil && (w.data.Len() == 0 || !errors.Is(w.err, io.EOF)) {
		return 0, w.err
	}
	n, _ := w.data.Read(p)
	w.changed.Broadcast()
	return n, nil
}

// directBody is a response's body.
type directBody struct {
	w      *directResponse
	cancel func()
}

func (b *directBody) Read(p []byte) (int, error) { return b.w.read(p) }

// Close breaks the response off unless it is whole.
func (b *directBody) Close() error {
	b.cancel()
	b.w.end(http.ErrBodyReadAfterClose)
	return nil
}
