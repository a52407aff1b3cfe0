package podruntime

import (
	"errors"
	"testing"

	v1 "k8s.io/api/core/v1"
)

const digest = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestImageReferences(t *testing.T) {
	for _, test := range []struct {
		ref, whole string
		policy     v1.PullPolicy
	}{
		{"nginx", "docker.io/library/nginx:latest", v1.PullAlways},
		{"nginx:1.27", "docker.io/library/nginx:1.27", v1.PullIfNotPresent},
		{"me/app:latest", "docker.io/me/app:latest", v1.PullAlways},
		{"index.docker.io/me/app:1", "docker.io/me/app:1", v1.PullIfNotPresent},
		{"localhost/app", "localhost/app:latest", v1.PullAlways},
		{"127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", v1.PullAlways},
		{"quay.io/a" + digest, "quay.io/a" + digest, v1.PullIfNotPresent},
		{"quay.io/a:1" + digest, "quay.io/a:1" + digest, v1.PullIfNotPresent},
		{"quay.io/a:latest" + digest, "quay.io/a:latest" + digest, v1.PullAlways},
		{"", "", v1.PullIfNotPresent},
		{"Nginx", "", v1.PullIfNotPresent},
		{"a b", "", v1.PullIfNotPresent},
		{"nginx:", "", v1.PullIfNotPresent},
		{"https://quay.io/a", "", v1.PullIfNotPresent},
		// A bare hexadecimal ID would be ambiguous.
		{digest[len("@sha256:"):], "", v1.PullIfNotPresent},
	} {
		whole, err := NormalizeImage(test.ref)
		if whole != test.whole || (err == nil) != (test.whole != "") || err != nil && !errors.Is(err, ErrInvalidImageName) {
			t.Errorf("NormalizeImage(%q) = %q, %v; want %q", test.ref, whole, err, test.whole)
		}
		if policy := DefaultPullPolicy(test.ref); policy != test.policy {
			t.Errorf("DefaultPullPolicy(%q) = %s, want %s", test.ref, policy, test.policy)
		}
	}
}
