package volume

import (
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

const (
	// maxTokenAge is when even a token that is valid for long is replaced.
	maxTokenAge = 24 * time.Hour
	// tokenJitter is how much earlier than they must tokens are replaced at most.
	tokenJitter = 10 * time.Second
	// ownedFileMode is for files that have an owner or a group.
	ownedFileMode = 0o600
)

// tokenKey names a token of a pod. Volumes that want the same one share it.
type tokenKey struct {
	audience string
	// seconds is the life that was asked for, 0 for the API server's choice.
	seconds int64
}

type token struct {
	tokenKey
	value string
	// renew is from when on to ask for another one, expires when this one must
	// not be used any more.
	renew, expires time.Time
}

// tokens are a pod's, few enough to look at each. A map takes more memory than
// all else of a simulated pod.
type tokens []token

func (ts tokens) find(key tokenKey) *token {
	for i := range ts {
		if ts[i].tokenKey == key {
			return &ts[i]
		}
	}
	return nil
}

// token adds a service account token, a new one if the one before has lived most
// of its life. While no new one is to be had, the old one is used to its end.
func (b *builder) token(s *v1.ServiceAccountTokenProjection) error {
	t, err := b.current(s)
	if err != nil {
		return err
	}
	return b.addOwned(s.Path, []byte(t.value))
}

// addOwned adds a file for the user of the pod's containers alone, if they have one
// or the pod has a group.
func (b *builder) addOwned(path string, data []byte) error {
	owner := soleUser(b.pod)
	var mode *int32
	if sc := b.pod.Spec.SecurityContext; owner != nil || sc != nil && sc.FSGroup != nil {
		own := int32(ownedFileMode)
		mode = &own
	}
	path, err := cleanPath(path)
	if err != nil {
		return err
	}
	if err := b.add(path, data, mode); err != nil {
		return err
	}
	f := b.files[path]
	f.User = owner
	b.files[path] = f
	return nil
}

// current is the token to show now.
func (b *builder) current(s *v1.ServiceAccountTokenProjection) (token, error) {
	key := tokenKey{audience: s.Audience}
	if s.ExpirationSeconds != nil {
		key.seconds = *s.ExpirationSeconds
	}
	b.entry.known.renewing.Lock()
	defer b.entry.known.renewing.Unlock()
	now := time.Now()
	held := b.entry.known.tokens.find(key)
	if held != nil && now.Before(held.renew) {
		return *held, nil
	}
	fresh, err := b.newToken(key, s)
	switch {
	case err == nil && held == nil:
		b.entry.known.tokens = append(b.entry.known.tokens, fresh)
		return fresh, nil
	case err == nil:
		*held = fresh
	case held == nil:
		return token{}, fmt.Errorf("failed to fetch token: %w", err)
	case !now.Before(held.expires):
		return token{}, fmt.Errorf("token expired and refresh failed: %w", err)
	default:
		b.Log.Warn("Cannot renew a token; the old one is in use", "pod", pod.FullName(b.pod), "expires", held.expires, "err", err)
	}
	return *held, nil
}

func (b *builder) newToken(key tokenKey, s *v1.ServiceAccountTokenProjection) (token, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: b.pod.Name, UID: b.pod.UID},
	}}
	if s.Audience != "" {
		request.Spec.Audiences = []string{s.Audience}
	}
	asked := time.Now()
	answer, err := b.Tokens.CreateToken(b.ctx, b.pod.Namespace, b.pod.Spec.ServiceAccountName, request)
	if err != nil {
		return token{}, err
	}
	t := token{tokenKey: key, value: answer.Status.Token, expires: answer.Status.ExpirationTimestamp.Time}
	// The API server may give another life than was asked for, and says which.
	life := t.expires.Sub(asked)
	if n := answer.Spec.ExpirationSeconds; n != nil {
		life = time.Duration(*n) * time.Second
	}
	issued := t.expires.Add(-life)
	t.renew = issued.Add(min(life-life/5, maxTokenAge) - b.jitter(tokenJitter))
	return t, nil
}

// jitter is a random duration below most.
func (m *Manager) jitter(most time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.Rand.Int64N(int64(most)))
}

// soleUser is the user that all containers of the pod run as, nil if they differ
// or do not say.
func soleUser(p *v1.Pod) *int64 {
	var sole *int64
	same := true
	eachContainer(p, func(c *v1.Container) bool {
		var user *int64
		if sc := p.Spec.SecurityContext; sc != nil {
			user = sc.RunAsUser
		}
		if c.SecurityContext != nil && c.SecurityContext.RunAsUser != nil {
			user = c.SecurityContext.RunAsUser
		}
		same = user != nil && (sole == nil || *sole == *user)
		sole = user
		return same
	})
	if !same {
		return nil
	}
	return sole
}
