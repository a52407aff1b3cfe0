// Package credentials finds the registry credentials for an image, as the
// kubelet's keyring does: it reads Docker's two configuration formats from
// secrets and from files of the node, and matches their entries with images.
//
// Everything here is a value; reading files is left to the caller's function.
// A keyring may be used concurrently. Error messages never hold any part of a
// credential.
package credentials

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"nodelet/agent/podruntime"
)

// Config is one configuration: credentials by registry, as the registry is
// written there. A name may have a scheme, a port, a path prefix and globs in
// its host.
type Config map[string]podruntime.Auth

// Keyring holds credentials in the order to try them. The zero value is empty.
type Keyring struct {
	// entries are in the order of the configurations' names, reversed: of two
	// names that begin alike the longer is first, and a glob is after a letter.
	// Entries of one name stay in the order of their configurations.
	entries []entry
	// next are tried after all entries.
	next []Keyring
}

// entry is a credential for the images of a registry, or of a part of it.
type entry struct {
	// name is host and path prefix.
	name   string
	host   []string // labels, each may be a glob
	port   string
	prefix string
	auth   podruntime.Auth
	// secret is where it is from; nil for the node's own.
	secret *kubeletconfig.ImagePullSecret
}

// Credential is one to try for an image.
type Credential struct {
	podruntime.Auth
	// Secret is the pod's secret that has it, without a credential in it but a
	// hash of this one; nil for one that is not from a secret.
	Secret *kubeletconfig.ImagePullSecret
}

// hub is the registry of images that name none, and hubServer what Docker calls
// it in credentials.
const (
	hub       = "docker.io"
	hubServer = "https://index.docker.io/v1/"
)

// New returns a keyring of all entries of the configurations. Where two name the
// same registry, the credentials of the earlier configuration are tried first.
// Entries without a credential are left out.
func New(configs ...Config) Keyring {
	var k Keyring
	for _, config := range configs {
		k.add(config, nil)
	}
	k.sort()
	return k
}

// add adds the entries of a configuration, which is from a secret or not.
func (k *Keyring) add(config Config, secret *v1.Secret) {
	var own []entry
	for registry, auth := range config {
		e, ok := parseEntry(registry, auth)
		if !ok {
			continue
		}
		if secret != nil {
			e.secret = &kubeletconfig.ImagePullSecret{UID: string(secret.UID), Namespace: secret.Namespace,
				Name: secret.Name, CredentialHash: hash(e.auth)}
		}
		own = append(own, e)
	}
	// A map has no order; give it one before names that mean the same meet.
	slices.SortFunc(own, func(a, b entry) int { return compareAuth(a.auth, b.auth) })
	k.entries = append(k.entries, own...)
}

func (k *Keyring) sort() {
	slices.SortStableFunc(k.entries, func(a, b entry) int { return cmp.Compare(b.name, a.name) })
}

// hash tells credentials apart without giving them away.
func hash(auth podruntime.Auth) string {
	data, err := json.Marshal(auth)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256(data))
}

func compareAuth(a, b podruntime.Auth) int {
	return cmp.Or(cmp.Compare(a.Username, b.Username), cmp.Compare(a.Password, b.Password),
		cmp.Compare(a.IdentityToken, b.IdentityToken))
}

// Then returns a keyring that finds what k finds, followed by what next finds.
func (k Keyring) Then(next Keyring) Keyring {
	k.next = append(slices.Clip(k.next), next)
	return k
}

// Lookup returns the credentials to try for an image, the most specific entry's
// first. None means that the image is to be fetched anonymously. A reference
// that is invalid has no credentials.
//
// ServerAddress is the registry that the image comes from.
func (k Keyring) Lookup(image string) []Credential {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil
	}
	domain, repository := reference.Domain(named), "/"+reference.Path(named)
	host, port := splitHost(domain)
	server := domain
	if domain == hub {
		server = hubServer
	}
	var found []Credential
	for _, e := range k.entries {
		if e.port != port || !strings.HasPrefix(repository, e.prefix) || !slices.EqualFunc(e.host, host, matchLabel) {
			continue
		}
		c := Credential{e.auth, e.secret}
		c.ServerAddress = server
		found = append(found, c)
	}
	for _, next := range k.next {
		found = append(found, next.Lookup(image)...)
	}
	return found
}

// parseEntry reads the name of a registry: a scheme is dropped, and so is /v1/
// or /v2/ in front of the path.
func parseEntry(registry string, auth podruntime.Auth) (entry, bool) {
	auth.ServerAddress = ""
	if auth == (podruntime.Auth{}) {
		// What Docker leaves where a credential helper has the secret.
		return entry{}, false
	}
	_, rest, hasScheme := strings.Cut(registry, "://")
	if !hasScheme {
		rest = registry
	}
	domain, prefix := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		domain, prefix = rest[:slash], rest[slash:]
	}
	for _, version := range []string{"/v1/", "/v2/"} {
		if strings.HasPrefix(prefix, version) {
			prefix = prefix[len(version)-1:]
			break
		}
	}
	if prefix == "/" {
		prefix = ""
	}
	if domain == "index."+hub {
		domain = hub
	}
	host, port := splitHost(domain)
	return entry{name: domain + prefix, host: host, port: port, prefix: prefix, auth: auth}, true
}

// splitHost returns the labels of a host and its port, which may be empty. Of an
// IPv6 address the pieces mean nothing, but equal ones are of equal addresses.
func splitHost(domain string) (labels []string, port string) {
	if colon := strings.LastIndexByte(domain, ':'); colon >= 0 {
		domain, port = domain[:colon], domain[colon+1:]
	}
	return strings.Split(domain, "."), port
}

// matchLabel reports whether one label of a host's name is, or matches, what an
// entry has in that place.
func matchLabel(glob, label string) bool {
	matched, err := path.Match(glob, label)
	return glob == label || matched && err == nil
}
