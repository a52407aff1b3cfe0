package agent

import (
	"context"
	"log/slog"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/credentials"
	"nodelet/agent/kubeapi"
	"nodelet/agent/node"
)

// HostFiles are what pods are told of the machine they run on.
type HostFiles interface {
	// ReadFile reads a file of the machine, such as resolv.conf.
	ReadFile(name string) ([]byte, error)
	// Credentials are the machine's own for registries, as they are now.
	Credentials() (credentials.Keyring, []error)
}

// host is what the worker tells containers of the machine and the cluster.
type host struct {
	node    *node.Manager
	watches kubeapi.Watches
	files   HostFiles
	log     *slog.Logger
}

func (h host) Node() *v1.Node { return h.node.AnyNode() }
func (h host) IPs() []string  { return h.node.HostIPs() }

// Services waits for the first list: an agent that has just started hears of its
// pods and of the services at about the same time.
func (h host) Services(ctx context.Context, namespace string) ([]*v1.Service, error) {
	const look = 20 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, objectPatience)
	defer cancel()
	for {
		services, err := h.watches.Services(namespace)
		if err == nil {
			return services, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(look):
		}
	}
}

func (h host) ReadFile(name string) ([]byte, error) {
	if h.files == nil {
		return nil, nil
	}
	return h.files.ReadFile(name)
}

func (h host) Credentials() credentials.Keyring {
	if h.files == nil {
		return credentials.Keyring{}
	}
	keyring, faults := h.files.Credentials()
	for _, err := range faults {
		h.log.Warn("Could not read the machine's registry credentials", "err", err)
	}
	return keyring
}

// objects are the config maps and secrets, for which a pod waits a while only:
// it is tried again as soon as what it refers to becomes known.
type objects struct{ *kubeapi.Objects }

const objectPatience = 10 * time.Second

func (o objects) ConfigMap(ctx context.Context, namespace, name string) (*v1.ConfigMap, error) {
	ctx, cancel := context.WithTimeout(ctx, objectPatience)
	defer cancel()
	return o.Objects.ConfigMap(ctx, namespace, name)
}

func (o objects) Secret(ctx context.Context, namespace, name string) (*v1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, objectPatience)
	defer cancel()
	return o.Objects.Secret(ctx, namespace, name)
}

// tokens are those of service accounts. The API server may hear of a pod's
// binding a little later than its node, and forbids a token until then.
type tokens struct{ *kubeapi.Client }

func (t tokens) CreateToken(ctx context.Context, namespace, account string, r *authentication.TokenRequest) (*authentication.TokenRequest, error) {
	const first, longest = 50 * time.Millisecond, time.Second
	for delay := first; ; delay *= 2 {
		token, err := t.Client.CreateToken(ctx, namespace, account, r)
		if !apierrors.IsForbidden(err) || delay > longest {
			return token, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(delay):
		}
	}
}
