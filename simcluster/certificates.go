package simcluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// keyPair is a certificate and its private key, both PEM.
type keyPair struct{ cert, key []byte }

// certificates are everything that the parts of a cluster prove themselves with.
// All but admin are kept in the data directory, in files named as kubeadm does.
type certificates struct {
	dir string
	// ca signs the API server's serving certificate and people's certificates;
	// frontCA signs the front proxy's.
	ca, frontCA keyPair
	// serving is the API server's; front is the front proxy's, as which all
	// connections inside the process are made; admin is a person's, in the
	// group system:masters.
	serving, front, admin keyPair
}

const (
	certificateLifetime = 10 * 365 * 24 * time.Hour
	// virtualValidity is for how many years certificates are valid around virtual time.
	virtualValidity = 50
	frontProxyName  = "front-proxy-client"
)

func (c *certificates) file(name string) string { return filepath.Join(c.dir, name) }

// makeCertificates makes the certificates of a cluster that is served at the
// given extra host (empty for none), and writes them to dir. Authorities and the
// service accounts' key that are already there are used again, so that tokens
// and kubeconfigs outlive a restart.
func makeCertificates(dir, host string) (*certificates, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	c := &certificates{dir: dir}
	var err error
	if c.ca, err = c.authority("ca", "kubernetes"); err != nil {
		return nil, err
	}
	if c.frontCA, err = c.authority("front-proxy-ca", "front-proxy-ca"); err != nil {
		return nil, err
	}
	serving := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback, net.IPv4(10, 0, 0, 1)},
	}
	if ip := net.ParseIP(host); ip != nil {
		serving.IPAddresses = append(serving.IPAddresses, ip)
	}
	front := &x509.Certificate{
		Subject:     pkix.Name{CommonName: frontProxyName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	admin := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kubernetes-admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if c.serving, err = issue(serving, &c.ca); err != nil {
		return nil, fmt.Errorf("making the serving certificate: %w", err)
	}
	if c.front, err = issue(front, &c.frontCA); err != nil {
		return nil, fmt.Errorf("making the front proxy's certificate: %w", err)
	}
	if c.admin, err = issue(admin, &c.ca); err != nil {
		return nil, fmt.Errorf("making the administrator's certificate: %w", err)
	}
	if err := c.write("apiserver", c.serving); err != nil {
		return nil, err
	}
	if err := c.write(frontProxyName, c.front); err != nil {
		return nil, err
	}
	return c, c.serviceAccountKey()
}

// authority reads the authority's key pair from the directory, or makes it.
func (c *certificates) authority(file, name string) (keyPair, error) {
	if pair, err := c.read(file); !errors.Is(err, fs.ErrNotExist) {
		return pair, err
	}
	pair, err := issue(&x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		DNSNames: []string{name},
		KeyUsage: x509.KeyUsageCertSign,
		IsCA:     true,
	}, nil)
	if err != nil {
		return keyPair{}, fmt.Errorf("making the authority %s: %w", name, err)
	}
	return pair, c.write(file, pair)
}

// serviceAccountKey makes the key that signs service account tokens, sa.key.
func (c *certificates) serviceAccountKey() error {
	if _, err := os.Stat(c.file("sa.key")); err == nil {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the service accounts' key: %w", err)
	}
	data, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("making the service accounts' key: %w", err)
	}
	return os.WriteFile(c.file("sa.key"), data, 0o600)
}

func (c *certificates) read(name string) (pair keyPair, err error) {
	if pair.cert, err = os.ReadFile(c.file(name + ".crt")); err != nil {
		return keyPair{}, err
	}
	pair.key, err = os.ReadFile(c.file(name + ".key"))
	return pair, err
}

func (c *certificates) write(name string, pair keyPair) error {
	if err := os.WriteFile(c.file(name+".crt"), pair.cert, 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.file(name+".key"), pair.key, 0o600)
}

// issue makes a key and a certificate for it; a nil signer means self-signed.
func issue(template *x509.Certificate, signer *keyPair) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		return keyPair{}, err
	}
	now := time.Now()
	// The machines of a cluster disagree on the time; so may its tests.
	template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(certificateLifetime)
	if ClockAddress() != 0 {
		// So may a kubectl, which lives in real time.
		template.NotBefore, template.NotAfter = now.AddDate(-virtualValidity, 0, 0), now.AddDate(virtualValidity, 0, 0)
	}
	template.KeyUsage |= x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true

	parent, parentKey := template, crypto.Signer(key)
	if signer != nil {
		if parent, parentKey, err = signer.parse(); err != nil {
			return keyPair{}, err
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return keyPair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  keyPEM,
	}, nil
}

func (p *keyPair) parse() (*x509.Certificate, crypto.Signer, error) {
	certBlock, _ := pem.Decode(p.cert)
	keyBlock, _ := pem.Decode(p.key)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, errors.New("no PEM data in the authority's certificate or key")
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(keyBlock.Bytes)
	return cert, key, err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
