package kubeapi

import (
	"fmt"
	"net/url"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// FromKubeconfig returns a Client for the current context of a kubeconfig; a
// server other than "" takes the place of the one that it names. Certificates,
// keys and tokens that the file gives by name are read again when they change.
// An error says what is wrong with the file; nothing is dialed.
func FromKubeconfig(path, server string, o Options) (*Client, error) {
	if server != "" {
		if err := checkServer(server); err != nil {
			return nil, err
		}
	}
	loaded, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if err := clientcmd.ResolveLocalPaths(loaded); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	overrides := &clientcmd.ConfigOverrides{ClusterInfo: api.Cluster{Server: server}}
	config, err := clientcmd.NewNonInteractiveClientConfig(*loaded, "", overrides, nil).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("reading %s: it names no server", path)
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return New(config, o)
}

// FromServer returns a Client for the API server at an http or https URL. It
// says to nobody who it is, and takes any certificate.
func FromServer(server string, o Options) (*Client, error) {
	if err := checkServer(server); err != nil {
		return nil, err
	}
	return New(&rest.Config{Host: server, TLSClientConfig: rest.TLSClientConfig{Insecure: strings.HasPrefix(server, "https:")}}, o)
}

func checkServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q: must be a URL such as https://192.0.2.1:6443", server)
	}
	return nil
}
