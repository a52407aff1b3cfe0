package kubeapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/transport"
)

// callers is an API server that answers every GET with a node named after who
// asks.
func callers(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "anonymous"
		if token := r.Header.Get("Authorization"); token != "" {
			name = token
		}
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			name = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"v1","kind":"Node","metadata":{"name":%q,"labels":{"agent":%q}}}`, name, r.UserAgent())
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	t.Cleanup(s.Close)
	return s
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// identity writes a certificate of a name, and its key.
func identity(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "client.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(t, filepath.Join(dir, "client.key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// kubeconfig writes a kubeconfig whose other files are beside it.
func kubeconfig(t *testing.T, dir, server, user string) string {
	t.Helper()
	name := filepath.Join(dir, "kubeconfig")
	write(t, name, []byte(`{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "`+server+`", certificate-authority: ca.crt}}],
users: [{name: u, user: `+user+`}]}`))
	return name
}

func whoAmI(t *testing.T, c *Client) string {
	t.Helper()
	n, err := c.GetNode(t.Context(), "n")
	if err != nil {
		return err.Error()
	}
	if n.Labels["agent"] != "nodelet-agent" {
		t.Errorf("user agent %q", n.Labels["agent"])
	}
	return n.Name
}

// A certificate that another program renews in its file is used from then on.
func TestCertificateIsRenewed(t *testing.T) {
	defer func(d time.Duration) { transport.CertCallbackRefreshDuration = d }(transport.CertCallbackRefreshDuration)
	transport.CertCallbackRefreshDuration = 20 * time.Millisecond
	s, dir := callers(t), t.TempDir()
	s.StartTLS()
	write(t, filepath.Join(dir, "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	identity(t, dir, "before")
	c, err := FromKubeconfig(kubeconfig(t, dir, s.URL, `{client-certificate: client.crt, client-key: client.key}`), "", DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := whoAmI(t, c); got != "before" {
		t.Errorf("asked as %q", got)
	}
	identity(t, dir, "after")
	for end := time.Now().Add(20 * time.Second); whoAmI(t, c) != "after"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still asks as %q", whoAmI(t, c))
		}
	}
}

func TestConnect(t *testing.T) {
	secure, plain, dir := callers(t), callers(t), t.TempDir()
	secure.StartTLS()
	plain.Start()
	write(t, filepath.Join(dir, "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	good := kubeconfig(t, dir, "https://192.0.2.1:6443", `{token: secret}`)

	c, err := FromKubeconfig(good, secure.URL, DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := whoAmI(t, c); got != "Bearer secret" {
		t.Errorf("asked as %q", got)
	}
	for _, server := range []string{secure.URL, plain.URL} {
		c, err := FromServer(server, DefaultOptions())
		if err != nil {
			t.Fatal(err)
		}
		if got := whoAmI(t, c); got != "anonymous" {
			t.Errorf("%s: asked as %q", server, got)
		}
	}
	for _, server := range []string{"", "192.0.2.1:6443", "ftp://192.0.2.1", "https://", "://"} {
		if _, err := FromServer(server, DefaultOptions()); err == nil || !strings.Contains(err.Error(), "must be a URL") {
			t.Errorf("server %q: %v", server, err)
		}
		if _, err := FromKubeconfig(good, server, DefaultOptions()); server != "" && (err == nil || !strings.Contains(err.Error(), "must be a URL")) {
			t.Errorf("kubeconfig with server %q: %v", server, err)
		}
	}
	for what, text := range map[string]string{
		"empty": "", "no YAML": "a: [", "no server": "{apiVersion: v1, kind: Config}",
		"no such context": "{apiVersion: v1, kind: Config, current-context: c}",
		"no such file":    "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: 'https://a', certificate-authority: nothing.crt}}]}",
	} {
		name := filepath.Join(dir, "bad")
		write(t, name, []byte(text))
		if _, err := FromKubeconfig(name, "", DefaultOptions()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := FromKubeconfig(filepath.Join(dir, "none"), "", DefaultOptions()); err == nil {
		t.Error("a missing file was taken")
	}
}
