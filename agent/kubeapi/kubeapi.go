// Package kubeapi talks to the API server as one node: calls on pods, nodes,
// leases, tokens and events (client.go, events.go) and on what is behind volumes
// (storage.go), watches on what is bound to the node and on services (watch.go,
// services.go), and those on the config maps and secrets that its pods refer to
// (objects.go). It is the only importer of client-go's transport and informers;
// the rest of the agent sees small interfaces that *Client satisfies.
package kubeapi

import (
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes"
	certificatesv1 "k8s.io/client-go/kubernetes/typed/certificates/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	storagev1 "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
)

// Options bound the load on the API server.
type Options struct {
	// QPS and Burst bound the calls a second, events and heartbeats apart; a
	// QPS of 0 does not bound them.
	QPS   float32
	Burst int
	// EventQPS and EventBurst bound the events a second likewise.
	EventQPS   float32
	EventBurst int
	// HeartbeatTimeout bounds one call on the Node or its lease: one that hangs
	// is better tried again before the node counts as lost.
	HeartbeatTimeout time.Duration
	// UserAgent is sent with every call.
	UserAgent string
}

// DefaultOptions are the kubelet's: 50 calls a second with bursts of 100, and
// the same for events; 10 s for a heartbeat.
func DefaultOptions() Options {
	return Options{QPS: 50, Burst: 100, EventQPS: 50, EventBurst: 100, HeartbeatTimeout: 10 * time.Second,
		UserAgent: "nodelet-agent"}
}

// Client talks to one API server under one identity. All methods may be called
// concurrently; each returns the API server's error, wrapped with what was
// being done to which object, so that apierrors.Is… still hold.
type Client struct {
	core   *corev1.CoreV1Client
	events *corev1.CoreV1Client
	// storage and certificates are for volumes, under the same bounds as core.
	storage      *storagev1.StorageV1Client
	certificates *certificatesv1.CertificatesV1Client
	// beat is for the Node, leases for its lease: neither waits behind the
	// calls of a node full of pods.
	beat   *corev1.CoreV1Client
	leases leaseOnly
	// statuses is for the pods' statuses: it is not bounded, for AwaitTurn is called
	// before; bound is that of core.
	statuses *corev1.CoreV1Client
	bound    flowcontrol.RateLimiter
	// services are what WatchServices has found.
	services Services
}

// New returns a Client. Clients whose configurations have one Transport share
// its connections; a Client itself is small, so that one process can have
// thousands.
func New(config *rest.Config, o Options) (*Client, error) {
	c := rest.CopyConfig(config)
	c.UserAgent = o.UserAgent
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	httpClient, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, fmt.Errorf("making an HTTP client for %s: %w", c.Host, err)
	}
	heartbeat := *httpClient
	heartbeat.Timeout = o.HeartbeatTimeout

	client := &Client{bound: limiter(o.QPS, o.Burst)}
	c.RateLimiter = client.bound
	if client.core, err = corev1.NewForConfigAndClient(c, httpClient); err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", c.Host, err)
	}
	if client.storage, err = storagev1.NewForConfigAndClient(c, httpClient); err != nil {
		return nil, fmt.Errorf("making a storage client for %s: %w", c.Host, err)
	}
	if client.certificates, err = certificatesv1.NewForConfigAndClient(c, httpClient); err != nil {
		return nil, fmt.Errorf("making a certificates client for %s: %w", c.Host, err)
	}
	c.RateLimiter = limiter(o.EventQPS, o.EventBurst)
	if client.events, err = corev1.NewForConfigAndClient(c, httpClient); err != nil {
		return nil, fmt.Errorf("making an event client for %s: %w", c.Host, err)
	}
	c.RateLimiter = limiter(0, 0)
	if client.statuses, err = corev1.NewForConfigAndClient(c, httpClient); err != nil {
		return nil, fmt.Errorf("making a status client for %s: %w", c.Host, err)
	}
	if client.beat, err = corev1.NewForConfigAndClient(c, &heartbeat); err != nil {
		return nil, fmt.Errorf("making a node client for %s: %w", c.Host, err)
	}
	if client.leases.coordination, err = coordinationv1.NewForConfigAndClient(c, &heartbeat); err != nil {
		return nil, fmt.Errorf("making a lease client for %s: %w", c.Host, err)
	}
	client.leases.core = client.beat
	return client, nil
}

func limiter(qps float32, burst int) flowcontrol.RateLimiter {
	if qps <= 0 {
		return flowcontrol.NewFakeAlwaysRateLimiter()
	}
	return flowcontrol.NewTokenBucketRateLimiter(qps, burst)
}

// leaseOnly is as much of a clientset as the lease library uses: a whole one
// costs a hundred times the memory, and there may be thousands.
type leaseOnly struct {
	kubernetes.Interface
	core         corev1.CoreV1Interface
	coordination coordinationv1.CoordinationV1Interface
}

func (l leaseOnly) CoreV1() corev1.CoreV1Interface                         { return l.core }
func (l leaseOnly) CoordinationV1() coordinationv1.CoordinationV1Interface { return l.coordination }
