package pulled

import (
	"fmt"
	"slices"
	"strings"

	"github.com/distribution/reference"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Policy says of which images on the node it is verified that a pod may use them.
type Policy struct {
	// Name is one of the values of KubeletConfiguration's
	// imagePullCredentialsVerificationPolicy; empty is NeverVerifyPreloadedImages.
	Name kubeletconfig.ImagePullCredentialsVerificationPolicy
	// Allowlist, only with NeverVerifyAllowlistedImages, has the images that
	// everybody may use: names without tag and digest, or all that begin with what
	// stands before a "*" that follows the last slash.
	Allowlist []string
}

// policies are the names that there are.
var policies = []kubeletconfig.ImagePullCredentialsVerificationPolicy{
	kubeletconfig.NeverVerify, kubeletconfig.NeverVerifyPreloadedImages,
	kubeletconfig.NeverVerifyAllowlistedImages, kubeletconfig.AlwaysVerify,
}

// Validate returns each fault, with the field's name in KubeletConfiguration.
func (p Policy) Validate() []error {
	var faults []error
	if p.Name != "" && !slices.Contains(policies, p.Name) {
		faults = append(faults, fmt.Errorf("imagePullCredentialsVerificationPolicy: %q: must be one of %s", p.Name, join(policies)))
	}
	if len(p.Allowlist) > 0 && p.Name != kubeletconfig.NeverVerifyAllowlistedImages {
		faults = append(faults, fmt.Errorf("preloadedImagesVerificationAllowlist: %q: must be empty unless imagePullCredentialsVerificationPolicy is %s",
			p.Allowlist, kubeletconfig.NeverVerifyAllowlistedImages))
	}
	for i, pattern := range p.Allowlist {
		if !isPattern(pattern) {
			faults = append(faults, fmt.Errorf("preloadedImagesVerificationAllowlist[%d]: %q: must be an image's name without tag and digest, or a prefix that ends with /*",
				i, pattern))
		}
	}
	return faults
}

func join[T ~string](all []T) string {
	var names []string
	for _, s := range all {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

func isPattern(pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/*"); ok {
		return prefix != "" && strings.TrimSpace(prefix) == prefix && !strings.Contains(prefix, "*")
	}
	named, err := reference.ParseNormalizedNamed(pattern)
	return err == nil && reference.IsNameOnly(named)
}

// verifies reports whether a pod must show that it may use an image; ours says
// that this agent has pulled it.
func (p Policy) verifies(image string, ours bool) bool {
	switch p.Name {
	case kubeletconfig.NeverVerify:
		return false
	case kubeletconfig.AlwaysVerify:
		return true
	case kubeletconfig.NeverVerifyAllowlistedImages:
		name := repository(image)
		return !slices.ContainsFunc(p.Allowlist, func(pattern string) bool {
			prefix, ok := strings.CutSuffix(pattern, "*")
			return ok && strings.HasPrefix(name, prefix) || pattern == name
		})
	}
	return ours
}
