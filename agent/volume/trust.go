package volume

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	certificates "k8s.io/api/certificates/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TrustBundles gives the cluster's trust bundles. What it returns is not changed.
type TrustBundles interface {
	ClusterTrustBundles(ctx context.Context) ([]certificates.ClusterTrustBundle, error)
}

// trust is what a node's pods share of the trust bundles. They are listed, and not
// watched: few pods show them, and they change rarely.
type trust struct {
	mu      sync.Mutex
	bundles []certificates.ClusterTrustBundle
	listed  time.Time
	// seed is what the anchors' order depends on, the same for the agent's life; nil
	// before it is needed.
	seed []byte
}

// trustAge is how old a list may be.
const trustAge = 10 * time.Second

// trustBundle adds trust anchors.
func (b *builder) trustBundle(s *v1.ClusterTrustBundleProjection) error {
	anchors, err := b.anchors(b.ctx, s)
	if err != nil {
		return err
	}
	return b.addOwned(s.Path, anchors)
}

// anchors are those of the bundles that a projection selects, each of them once, in
// an order on which nobody can rely.
func (m *Manager) anchors(ctx context.Context, s *v1.ClusterTrustBundleProjection) ([]byte, error) {
	selects, missing, err := selection(s)
	if err != nil {
		return nil, err
	}
	m.trust.mu.Lock()
	defer m.trust.mu.Unlock()
	selected := m.trust.selected(selects)
	if age := time.Since(m.trust.listed); m.trust.listed.IsZero() || age >= trustAge || len(selected) == 0 && age > 0 {
		// What is missed may have come since.
		if err := m.listTrust(ctx); err != nil {
			return nil, err
		}
		selected = m.trust.selected(selects)
	}
	switch {
	case len(selected) > 0:
		return m.normalize(selected), nil
	case isTrue(s.Optional):
		return []byte{}, nil
	}
	return nil, missing
}

// selection says which bundles a projection selects, and what is wrong if there are
// none.
func selection(s *v1.ClusterTrustBundleProjection) (selects func(*certificates.ClusterTrustBundle) bool, missing, err error) {
	switch {
	case s.Name != nil:
		return func(b *certificates.ClusterTrustBundle) bool { return b.Name == *s.Name },
			fmt.Errorf("while getting ClusterTrustBundle: %w",
				apierrors.NewNotFound(schema.GroupResource{Group: certificates.GroupName, Resource: "clustertrustbundle"}, *s.Name)), nil
	case s.SignerName == nil:
		return nil, nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	// No selector selects nothing, an empty one everything.
	selector, err := metav1.LabelSelectorAsSelector(s.LabelSelector)
	if err != nil {
		return nil, nil, fmt.Errorf("while parsing label selector: %w", err)
	}
	return func(b *certificates.ClusterTrustBundle) bool {
		return b.Spec.SignerName == *s.SignerName && selector.Matches(labels.Set(b.Labels))
	}, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles"), nil
}

func (t *trust) selected(selects func(*certificates.ClusterTrustBundle) bool) (selected []*certificates.ClusterTrustBundle) {
	for i := range t.bundles {
		if selects(&t.bundles[i]) {
			selected = append(selected, &t.bundles[i])
		}
	}
	return selected
}

// listTrust lists the bundles. Called with trust.mu held.
func (m *Manager) listTrust(ctx context.Context) error {
	if m.TrustBundles == nil {
		return nil
	}
	bundles, err := m.TrustBundles.ClusterTrustBundles(ctx)
	if err != nil {
		return fmt.Errorf("while listing ClusterTrustBundles: %w", err)
	}
	m.trust.bundles, m.trust.listed = bundles, time.Now()
	return nil
}

// normalize has each anchor of some bundles once. Called with trust.mu held.
func (m *Manager) normalize(bundles []*certificates.ClusterTrustBundle) []byte {
	if m.trust.seed == nil {
		m.mu.Lock()
		m.trust.seed = binary.NativeEndian.AppendUint64(nil, m.Rand.Uint64())
		m.mu.Unlock()
	}
	type anchor struct{ place, der []byte }
	var anchors []anchor
	for _, b := range bundles {
		for block, rest := pem.Decode([]byte(b.Spec.TrustBundle)); block != nil; block, rest = pem.Decode(rest) {
			place := sha256.Sum256(slices.Concat(m.trust.seed, block.Bytes))
			anchors = append(anchors, anchor{place[:], block.Bytes})
		}
	}
	slices.SortFunc(anchors, func(a, b anchor) int { return bytes.Compare(a.place, b.place) })
	anchors = slices.CompactFunc(anchors, func(a, b anchor) bool { return bytes.Equal(a.place, b.place) })
	var all []byte
	for _, a := range anchors {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})...)
	}
	return all
}
