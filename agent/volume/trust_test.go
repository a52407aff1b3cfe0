//go:build linux

package volume

import (
	"context"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certificates "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bundles are what the cluster has.
type bundles struct {
	mu    sync.Mutex
	all   []certificates.ClusterTrustBundle
	lists int
	err   error
}

// change changes what there is while somebody may list it.
func (b *bundles) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// listed is how often somebody has.
func (b *bundles) listed() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lists
}

func (b *bundles) ClusterTrustBundles(context.Context) ([]certificates.ClusterTrustBundle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lists++
	return slices.Clone(b.all), b.err
}

// add adds a bundle with an anchor for each word.
func (b *bundles) add(name, signer, label, anchors string) {
	o := certificates.ClusterTrustBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"l": label}}}
	o.Spec.SignerName = signer
	for _, word := range strings.Fields(anchors) {
		o.Spec.TrustBundle += "a comment\n" + anchor(word)
	}
	b.all = append(b.all, o)
}

func anchor(word string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(word)}))
}

// words are the anchors in a file, sorted.
func words(file string) string {
	var found []string
	for block, rest := pem.Decode([]byte(file)); block != nil; block, rest = pem.Decode(rest) {
		found = append(found, string(block.Bytes))
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}

func TestTrustBundles(t *testing.T) {
	for name, test := range map[string]struct{ source, want, err string }{
		"by name":      {"name: one", "a b", ""},
		"by signer":    {"signerName: ex.com/s, labelSelector: {}", "a b c", ""},
		"by label":     {"signerName: ex.com/s, labelSelector: {matchLabels: {l: q}}", "b c", ""},
		"none of it":   {"signerName: ex.com/s", "", "combination of signerName and labelSelector matched zero ClusterTrustBundles"},
		"no such":      {"name: none", "", `while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io "none" not found`},
		"optional":     {"name: none, optional: true", "", ""},
		"neither":      {"optional: true", "", "ClusterTrustBundle projection requires either name or signerName to be set"},
		"bad selector": {"signerName: ex.com/s, labelSelector: {matchLabels: {\"/\": q}}", "", "while parsing label selector: "},
	} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(t *testing.T, w *world, s *Memory) {
				b := &bundles{}
				b.add("one", "ex.com/s", "x", "b a b")
				b.add("two", "ex.com/s", "q", "c b")
				b.add("other", "ex.com/t", "q", "z")
				w.TrustBundles = b
				err := w.Mount(t.Context(), podOf(t, "volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: ca.pem, "+test.source+"}}]}}]"))
				if test.err != "" {
					if err == nil || !strings.HasPrefix(err.Error(), `MountVolume.SetUp failed for volume "v" : `+test.err) {
						t.Errorf("%v", err)
					}
					return
				}
				must(t, err)
				file, err := s.ReadFile("uid-1", "v", "ca.pem")
				if err != nil || words(file) != test.want {
					t.Errorf("has %q, %v", words(file), err)
				}
			})
		})
	}
}

// All pods of a node share a list for a while; what is not in it is looked for at
// once; what cannot be listed leaves a volume as it was.
func TestTrustBundlesLater(t *testing.T) {
	inTime(t, func(t *testing.T, w *world, s *Memory) {
		b := &bundles{}
		b.add("one", "ex.com/s", "x", "a b c d e f g h")
		w.TrustBundles = b
		one := podOf(t, "volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: ca.pem, name: one}}]}}]")
		for range 5 {
			w.mount(one)
			time.Sleep(time.Second)
		}
		first, err := s.ReadFile("uid-1", "v", "ca.pem")
		if err != nil || b.listed() != 1 {
			t.Errorf("listed %d times, %v", b.listed(), err)
		}
		two := podOf(t, "volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {path: ca.pem, name: two}}]}}]")
		two.UID = "uid-2"
		if err := w.Mount(t.Context(), two); err == nil {
			t.Error("no error")
		}
		b.change(func() { b.add("two", "ex.com/s", "x", "z") })
		time.Sleep(time.Second)
		w.mount(two)
		if n := b.listed(); n != 3 {
			t.Errorf("listed %d times", n)
		}
		time.Sleep(5 * time.Minute)
		w.shows(s, "v/ca.pem", first)
		b.change(func() { b.err, b.all = errors.New("down"), nil })
		time.Sleep(5 * time.Minute)
		w.shows(s, "v/ca.pem", first)
		if told := w.told(); len(told) == 0 || told[0].Message != `MountVolume.SetUp failed for volume "v" : while listing ClusterTrustBundles: down` {
			t.Errorf("told %+v", told)
		}
		b.change(func() {
			b.err = nil
			b.add("one", "ex.com/s", "x", "new")
			b.add("two", "ex.com/s", "x", "new")
		})
		time.Sleep(2 * time.Minute)
		w.shows(s, "v/ca.pem", anchor("new"))
	})
}
