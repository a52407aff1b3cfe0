package pod

import (
	"fmt"

	v1 "k8s.io/api/core/v1"
)

// RecursiveReadOnly settles whether a container's mount is read-only with all that is
// mounted below it, on a node that can do that or cannot. The error says why it
// cannot be mounted at all.
func RecursiveReadOnly(m *v1.VolumeMount, supported bool) (bool, error) {
	if m.RecursiveReadOnly == nil || *m.RecursiveReadOnly == v1.RecursiveReadOnlyDisabled {
		return false, nil
	}
	refused := func(why string) (bool, error) {
		return false, fmt.Errorf("volume %q requested recursive read-only mode, but it is not %s", m.Name, why)
	}
	switch mode := *m.RecursiveReadOnly; {
	case !m.ReadOnly:
		return refused("read-only")
	case m.MountPropagation != nil && *m.MountPropagation != v1.MountPropagationNone:
		return refused(fmt.Sprintf("compatible with propagation %q", *m.MountPropagation))
	case mode == v1.RecursiveReadOnlyIfPossible:
		return supported, nil
	case mode != v1.RecursiveReadOnlyEnabled:
		return false, fmt.Errorf("unknown recursive read-only mode %q", mode)
	case !supported:
		return refused("supported by the runtime")
	}
	return true, nil
}
