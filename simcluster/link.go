package simcluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/kubeapi"
)

// link is one node's connection to the API server. It can be cut: requests that
// are under way break off, watches among them, and new ones fail.
type link struct {
	next http.RoundTripper

	mu sync.Mutex
	// up ends when the link is cut. Guarded by mu.
	up  context.Context
	cut context.CancelCauseFunc
	// restored is closed when the link is whole; nil while it is. Guarded by mu.
	restored chan struct{}
}

// errCut is what a request meets whose link was cut.
var errCut = fmt.Errorf("the node is cut off: %w", syscall.ENETUNREACH)

func newLink(next http.RoundTripper) *link {
	l := &link{next: next}
	l.up, l.cut = context.WithCancelCause(context.Background())
	return l
}

// Cut cuts the link, if it is whole.
func (l *link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored == nil {
		l.restored = make(chan struct{})
		l.cut(errCut)
	}
}

// Restore makes the link whole again, if it is cut.
func (l *link) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored != nil {
		l.up, l.cut = context.WithCancelCause(context.Background())
		close(l.restored)
		l.restored = nil
	}
}

// wait returns, as soon as the link is whole, a context that ends with it or
// with ctx; or nil once ctx has ended.
func (l *link) wait(ctx context.Context) (context.Context, context.CancelFunc) {
	for ctx.Err() == nil {
		l.mu.Lock()
		up, restored := l.up, l.restored
		l.mu.Unlock()
		if restored == nil {
			return join(ctx, up)
		}
		select {
		case <-restored:
		case <-ctx.Done():
		}
	}
	return nil, nil
}

// join returns a context that ends when either does.
func join(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(a)
	stop := context.AfterFunc(b, func() { cancel(context.Cause(b)) })
	return ctx, func() { stop(); cancel(context.Canceled) }
}

// RoundTrip sends the request if the link is whole.
func (l *link) RoundTrip(req *http.Request) (*http.Response, error) {
	l.mu.Lock()
	up := l.up
	l.mu.Unlock()
	if up.Err() != nil {
		return nil, errCut
	}
	ctx, cancel := join(req.Context(), up)
	resp, err := l.next.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		if up.Err() != nil && req.Context().Err() == nil {
			return nil, errCut
		}
		return nil, err
	}
	resp.Body = &linkedBody{ReadCloser: resp.Body, up: up, cancel: cancel}
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (l *link) WrappedRoundTripper() http.RoundTripper { return l.next }

// linkedBody is a response that breaks off when the link is cut.
type linkedBody struct {
	io.ReadCloser
	up     context.Context
	cancel context.CancelFunc
}

func (b *linkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.up.Err() != nil {
		err = errCut
	}
	return n, err
}

func (b *linkedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// linkedWatches feeds an agent from the hub, as long as its link is whole.
type linkedWatches struct {
	hub  *hub
	link *link
	// cut are the services as they were when the link was cut; nil while it is
	// whole.
	cut atomic.Pointer[kubeapi.Services]
}

var _ kubeapi.Watches = (*linkedWatches)(nil)

// WatchPods implements kubeapi.Watches.
func (w *linkedWatches) WatchPods(ctx context.Context, nodeName string, h kubeapi.PodHandler) {
	feed := &podFeed{handler: h}
	for {
		up, cancel := w.link.wait(ctx)
		if up == nil {
			return
		}
		w.hub.feedPods(up, nodeName, feed)
		cancel()
	}
}

// WatchNode implements kubeapi.Watches.
func (w *linkedWatches) WatchNode(ctx context.Context, nodeName string, h kubeapi.NodeHandler) {
	feed := &nodeFeed{handler: h}
	for {
		up, cancel := w.link.wait(ctx)
		if up == nil {
			return
		}
		w.hub.feedNode(up, nodeName, feed)
		cancel()
	}
}

// WatchServices implements kubeapi.Watches. While the link is cut, the services
// stay as they were.
func (w *linkedWatches) WatchServices(ctx context.Context) {
	for {
		up, cancel := w.link.wait(ctx)
		if up == nil {
			return
		}
		w.cut.Store(nil)
		<-up.Done()
		cancel()
		if ctx.Err() != nil {
			return
		}
		kept := &kubeapi.Services{}
		kept.Set(&w.hub.services)
		w.cut.Store(kept)
	}
}

// Services implements kubeapi.Watches.
func (w *linkedWatches) Services(namespace string) ([]*v1.Service, error) {
	if kept := w.cut.Load(); kept != nil {
		return kept.For(namespace)
	}
	return w.hub.services.For(namespace)
}
