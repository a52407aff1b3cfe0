package simcluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// redirectLoopback has the API server's client of itself go through n instead of
// a TCP port, and returns the configuration for the clients still to be made.
//
// Upstream derives the loopback client's address from the listener and has made
// one client, which its informers and controllers share, before we get hold of
// anything. Nothing has been sent on it yet, so its transport can be exchanged.
func redirectLoopback(loopback *rest.Config, factory informers.SharedInformerFactory, n *network) (*rest.Config, error) {
	transport, err := n.newTransport(nil, loopback.CAData, loopback.ServerName)
	if err != nil {
		return nil, fmt.Errorf("redirecting the loopback client: %w", err)
	}
	redirected := rest.CopyConfig(loopback)
	redirected.TLSClientConfig = rest.TLSClientConfig{}
	redirected.Transport = transport
	// The bearer token and what else goes around the transport.
	wrapped, err := rest.HTTPWrappersForConfig(redirected, transport)
	if err != nil {
		return nil, fmt.Errorf("redirecting the loopback client: %w", err)
	}

	httpClient := clientOf(factory)
	if httpClient == nil {
		return nil, errors.New("redirecting the loopback client: the informers' HTTP client was not found")
	}
	httpClient.Transport = wrapped
	return redirected, nil
}

// clientOf is the HTTP client that all informers of the factory share; nil if it
// cannot be told. It is had by asking for an informer of a kind of our own.
func clientOf(factory informers.SharedInformerFactory) *http.Client {
	var found *http.Client
	factory.InformerFor(&probeObject{}, func(client kubernetes.Interface, _ time.Duration) cache.SharedIndexInformer {
		if c, ok := client.CoreV1().RESTClient().(*rest.RESTClient); ok {
			found = c.Client
		}
		return idleInformer{}
	})
	return found
}

// probeObject is a kind that no API server has.
type probeObject struct{}

func (*probeObject) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }
func (*probeObject) DeepCopyObject() runtime.Object   { return &probeObject{} }

// idleInformer is an informer of nothing: the factory runs it with the others.
type idleInformer struct{ cache.SharedIndexInformer }

func (idleInformer) SetTransform(cache.TransformFunc) error { return nil }
func (idleInformer) Run(<-chan struct{})                    {}
func (idleInformer) RunWithContext(context.Context)         {}
func (idleInformer) HasSynced() bool                        { return true }
func (idleInformer) HasSyncedChecker() cache.DoneChecker    { return syncedAlready{} }

type syncedAlready struct{}

func (syncedAlready) Name() string { return "none" }
func (syncedAlready) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}
