package agent

import (
	"context"
	"log/slog"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/credentials"
	"nodelet/agent/kubeapi"
	"nodelet/agent/node"
	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
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

func (h host) Services(namespace string) ([]*v1.Service, error) {
	return h.watches.Services(namespace)
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

// noVolumes are the volumes of pods that have no files.
type noVolumes struct{}

func (noVolumes) Mount(context.Context, *v1.Pod) error   { return nil }
func (noVolumes) Unmount(context.Context, pod.UID) error { return nil }
func (noVolumes) Remove(context.Context, pod.UID) error  { return nil }

func (noVolumes) Mounts(*v1.Pod, *v1.Container, []podruntime.EnvVar) ([]podruntime.Mount, error) {
	return nil, nil
}

func (noVolumes) File(pod.UID, string, []byte) (string, error) { return "", nil }
