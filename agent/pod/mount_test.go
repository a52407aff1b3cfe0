package pod

import (
	"fmt"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func TestRecursiveReadOnly(t *testing.T) {
	const enabled, disabled, possible = v1.RecursiveReadOnlyEnabled, v1.RecursiveReadOnlyDisabled, v1.RecursiveReadOnlyIfPossible
	const refused = `volume "v" requested recursive read-only mode, but it is not `
	for _, test := range []struct {
		mode        v1.RecursiveReadOnlyMode
		writable    bool
		propagation v1.MountPropagationMode
		// old and able are the outcomes without and with the node's support.
		old, able string
	}{
		{mode: "", old: "false", able: "false"},
		{mode: disabled, writable: true, old: "false", able: "false"},
		{mode: possible, old: "false", able: "true"},
		{mode: enabled, old: refused + "supported by the runtime", able: "true"},
		{mode: enabled, propagation: v1.MountPropagationNone, old: refused + "supported by the runtime", able: "true"},
		{mode: possible, writable: true, old: refused + "read-only", able: refused + "read-only"},
		{mode: possible, propagation: v1.MountPropagationHostToContainer,
			old:  refused + `compatible with propagation "HostToContainer"`,
			able: refused + `compatible with propagation "HostToContainer"`},
		{mode: "Perhaps", old: `unknown recursive read-only mode "Perhaps"`, able: `unknown recursive read-only mode "Perhaps"`},
	} {
		m := &v1.VolumeMount{Name: "v", ReadOnly: !test.writable}
		if test.mode != "" {
			m.RecursiveReadOnly = &test.mode
		}
		if test.propagation != "" {
			m.MountPropagation = &test.propagation
		}
		for supported, want := range map[bool]string{false: test.old, true: test.able} {
			is, err := RecursiveReadOnly(m, supported)
			got := fmt.Sprint(is)
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("%+v, support %v: %s, want %s", test, supported, got, want)
			}
		}
	}
}
