package simcluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// URL is where kubectl reaches the API server; empty without Options.Listen.
func (c *Cluster) URL() string {
	if c.network.tcp == nil {
		return ""
	}
	return "https://" + c.network.tcp.Addr().String()
}

// WriteKubeconfig writes a file with which kubectl is the cluster's
// administrator: for its owner only, and all at once, so that no one reads half
// of it. There must be a port (Options.Listen).
func (c *Cluster) WriteKubeconfig(path string) error {
	if c.network.tcp == nil {
		return errors.New("writing the kubeconfig: the cluster listens on no port")
	}
	const name = "nodelet-sim"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: c.URL(), CertificateAuthorityData: c.certs.ca.cert}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: c.certs.admin.cert,
		ClientKeyData:         c.certs.admin.key,
	}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	if err := writeFileAtomically(path, data); err != nil {
		return fmt.Errorf("writing the kubeconfig %s: %w", path, cause(err))
	}
	return nil
}

func writeFileAtomically(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	// CreateTemp made it readable for its owner only.
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
