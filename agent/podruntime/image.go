package podruntime

import (
	"fmt"

	"github.com/distribution/reference"
	v1 "k8s.io/api/core/v1"
)

// NormalizeImage returns the whole reference that ref is short for: nginx is
// docker.io/library/nginx:latest. An error wraps ErrInvalidImageName.
func NormalizeImage(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("parsing image reference %q: %w: %w", ref, ErrInvalidImageName, err)
	}
	return reference.TagNameOnly(named).String(), nil
}

// DefaultPullPolicy is the pull policy of a container that names none: Always
// for the tag latest, given or meant; else IfNotPresent, also where ref is
// invalid.
func DefaultPullPolicy(ref string) v1.PullPolicy {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return v1.PullIfNotPresent
	}
	if tagged, ok := reference.TagNameOnly(named).(reference.Tagged); ok && tagged.Tag() == "latest" {
		return v1.PullAlways
	}
	return v1.PullIfNotPresent
}
