package pod

import (
	"slices"

	v1 "k8s.io/api/core/v1"
)

// ContainerSpec returns the spec of the named container and whether it is an init
// container; nil if the pod has none of that name. That of an ephemeral container
// is a copy.
func ContainerSpec(p *v1.Pod, name string) (c *v1.Container, init bool) {
	for i := range p.Spec.InitContainers {
		if p.Spec.InitContainers[i].Name == name {
			return &p.Spec.InitContainers[i], true
		}
	}
	for i := range p.Spec.Containers {
		if p.Spec.Containers[i].Name == name {
			return &p.Spec.Containers[i], false
		}
	}
	if e := EphemeralContainer(p, name); e != nil {
		c := v1.Container(e.EphemeralContainerCommon)
		return &c, false
	}
	return nil, false
}

// EphemeralContainer returns the named ephemeral container, or nil.
func EphemeralContainer(p *v1.Pod, name string) *v1.EphemeralContainer {
	for i := range p.Spec.EphemeralContainers {
		if e := &p.Spec.EphemeralContainers[i]; e.Name == name {
			return e
		}
	}
	return nil
}

// PreStop is the container's preStop hook, or nil.
func PreStop(c *v1.Container) *v1.LifecycleHandler {
	if c.Lifecycle == nil {
		return nil
	}
	return c.Lifecycle.PreStop
}

// IsSidecar reports whether an init container is a restartable one: it is
// started in its turn, runs beside the pod's containers, and is stopped last.
func IsSidecar(c *v1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways
}

// ShouldRestart reports whether a container of p that ended with exitCode is to
// be started again. The container's own restart policy and rules go before the
// pod's.
func ShouldRestart(p *v1.Pod, c *v1.Container, exitCode int32) bool {
	for i := range c.RestartPolicyRules {
		if rule := &c.RestartPolicyRules[i]; rule.ExitCodes != nil && matches(rule.ExitCodes, exitCode) {
			return rule.Action == v1.ContainerRestartRuleActionRestart
		}
	}
	policy := p.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = v1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

func matches(r *v1.ContainerRestartRuleOnExitCodes, exitCode int32) bool {
	in := slices.Contains(r.Values, exitCode)
	if r.Operator == v1.ContainerRestartRuleOnExitCodesOpNotIn {
		return !in
	}
	return in
}

// TerminationGrace is the pod's own grace period in seconds, at least 1.
func TerminationGrace(p *v1.Pod) int64 {
	grace := int64(v1.DefaultTerminationGracePeriodSeconds)
	if p.Spec.TerminationGracePeriodSeconds != nil {
		grace = *p.Spec.TerminationGracePeriodSeconds
	}
	// A deletion may shorten the grace period, never lengthen it.
	if d := p.DeletionGracePeriodSeconds; d != nil && *d < grace {
		grace = *d
	}
	return max(grace, 1)
}
