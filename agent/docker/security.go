package docker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"
)

// secure applies the security contexts of pod and container.
func (r *Runtime) secure(host *container.HostConfig, p *v1.Pod, c *v1.Container) error {
	host.GroupAdd = groupsOf(p)
	sc := c.SecurityContext
	if sc == nil {
		sc = &v1.SecurityContext{}
	}
	host.Privileged = sc.Privileged != nil && *sc.Privileged
	host.ReadonlyRootfs = sc.ReadOnlyRootFilesystem != nil && *sc.ReadOnlyRootFilesystem
	if caps := sc.Capabilities; caps != nil {
		for _, name := range caps.Add {
			host.CapAdd = append(host.CapAdd, string(name))
		}
		for _, name := range caps.Drop {
			host.CapDrop = append(host.CapDrop, string(name))
		}
	}
	if sc.ProcMount != nil && *sc.ProcMount == v1.UnmaskedProcMount {
		// Empty, not nil: nil asks for Docker's own lists.
		host.MaskedPaths, host.ReadonlyPaths = []string{}, []string{}
	}
	if allow := sc.AllowPrivilegeEscalation; allow != nil && !*allow {
		host.SecurityOpt = append(host.SecurityOpt, "no-new-privileges")
	}
	if host.Privileged {
		return nil
	}
	seccomp, err := r.seccompOf(p, sc)
	if err != nil {
		return err
	}
	host.SecurityOpt = append(host.SecurityOpt, seccomp...)
	host.SecurityOpt = append(host.SecurityOpt, appArmorOf(p, sc)...)
	host.SecurityOpt = append(host.SecurityOpt, seLinuxOf(p, sc)...)
	return nil
}

// userOf is the user and group to run as, as `docker run --user` takes them;
// empty for the image's.
func userOf(p *v1.Pod, c *v1.Container) string {
	var user, group *int64
	if sc := p.Spec.SecurityContext; sc != nil {
		user, group = sc.RunAsUser, sc.RunAsGroup
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		if sc.RunAsGroup != nil {
			group = sc.RunAsGroup
		}
	}
	if user == nil {
		return ""
	}
	s := strconv.FormatInt(*user, 10)
	if group != nil {
		s += ":" + strconv.FormatInt(*group, 10)
	}
	return s
}

func groupsOf(p *v1.Pod) []string {
	sc := p.Spec.SecurityContext
	if sc == nil {
		return nil
	}
	var groups []string
	for _, group := range sc.SupplementalGroups {
		groups = append(groups, strconv.FormatInt(group, 10))
	}
	if sc.FSGroup != nil {
		groups = append(groups, strconv.FormatInt(*sc.FSGroup, 10))
	}
	return groups
}

// seccompOf is the profile to run under. Where none is asked for there is
// none, as with a kubelet without SeccompDefault.
func (r *Runtime) seccompOf(p *v1.Pod, sc *v1.SecurityContext) ([]string, error) {
	profile := sc.SeccompProfile
	if profile == nil && p.Spec.SecurityContext != nil {
		profile = p.Spec.SecurityContext.SeccompProfile
	}
	if profile == nil || profile.Type == v1.SeccompProfileTypeUnconfined {
		return []string{"seccomp=unconfined"}, nil
	}
	if profile.Type == v1.SeccompProfileTypeRuntimeDefault {
		return nil, nil
	}
	if profile.LocalhostProfile == nil || !filepath.IsLocal(*profile.LocalhostProfile) {
		return nil, fmt.Errorf("seccompProfile.localhostProfile: must be a path below %s", r.config.SeccompProfileRoot)
	}
	data, err := os.ReadFile(filepath.Join(r.config.SeccompProfileRoot, *profile.LocalhostProfile))
	if err != nil {
		return nil, fmt.Errorf("loading the seccomp profile: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, data); err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", *profile.LocalhostProfile, err)
	}
	return []string{"seccomp=" + compact.String()}, nil
}

func appArmorOf(p *v1.Pod, sc *v1.SecurityContext) []string {
	profile := sc.AppArmorProfile
	if profile == nil && p.Spec.SecurityContext != nil {
		profile = p.Spec.SecurityContext.AppArmorProfile
	}
	switch {
	case profile == nil || profile.Type == v1.AppArmorProfileTypeRuntimeDefault:
		return nil
	case profile.Type == v1.AppArmorProfileTypeUnconfined:
		return []string{"apparmor=unconfined"}
	case profile.LocalhostProfile != nil:
		return []string{"apparmor=" + *profile.LocalhostProfile}
	}
	return nil
}

func seLinuxOf(p *v1.Pod, sc *v1.SecurityContext) []string {
	options := sc.SELinuxOptions
	if options == nil && p.Spec.SecurityContext != nil {
		options = p.Spec.SecurityContext.SELinuxOptions
	}
	if options == nil {
		return nil
	}
	var all []string
	for _, o := range []struct{ name, value string }{
		{"user", options.User}, {"role", options.Role}, {"type", options.Type}, {"level", options.Level}} {
		if o.value != "" {
			all = append(all, "label="+o.name+":"+o.value)
		}
	}
	return all
}
