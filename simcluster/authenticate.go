package simcluster

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/request/union"
)

// The headers in which the front proxy says who a request is from.
const (
	userHeader        = "X-Remote-User"
	groupHeader       = "X-Remote-Group"
	extraHeaderPrefix = "X-Remote-Extra-"
)

// withFrontProxy puts an authenticator of the front proxy's requests before
// others. It comes to the same as theirs for --requestheader-client-ca-file, but
// knows the one certificate that it is about: theirs verifies its signature for
// each request anew, which would be a twentieth of all work.
func withFrontProxy(others authenticator.Request, certs *certificates) (authenticator.Request, error) {
	pair, err := tls.X509KeyPair(certs.front.cert, certs.front.key)
	if err != nil {
		return nil, fmt.Errorf("reading the front proxy's certificate: %w", err)
	}
	headers, err := headerrequest.New([]string{userHeader}, nil, []string{groupHeader}, []string{extraHeaderPrefix})
	if err != nil {
		return nil, fmt.Errorf("making the front proxy's authenticator: %w", err)
	}
	known := authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		// The handshake has proved that the peer has the certificate's key.
		if req.TLS == nil || len(req.TLS.PeerCertificates) == 0 ||
			!bytes.Equal(req.TLS.PeerCertificates[0].Raw, pair.Certificate[0]) {
			return nil, false, nil
		}
		return headers.AuthenticateRequest(req)
	})
	return union.New(group.NewAuthenticatedGroupAdder(known), others), nil
}

// asUser says in each request who it is from.
type asUser struct {
	next http.RoundTripper
	user user
}

// RoundTrip sends a copy of the request with the front proxy's headers.
func (t *asUser) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set(userHeader, t.user.name)
	req.Header[groupHeader] = t.user.groups
	return t.next.RoundTrip(req)
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *asUser) WrappedRoundTripper() http.RoundTripper { return t.next }
