package docker

import (
	"testing"

	"github.com/docker/docker/api/types/container"
)

// What an ended container is known by is remembered, but for one that was killed:
// that it was for its memory the engine may hear after its end.
func TestEndedIsRemembered(t *testing.T) {
	for _, test := range []struct {
		code       int
		oom        bool
		reason     string
		remembered bool
	}{{0, false, "Completed", true}, {1, false, "Error", true}, {137, false, "Error", false}, {137, true, "OOMKilled", true}} {
		r := &Runtime{}
		const at = "2026-01-01T00:00:00Z"
		c := r.containerOf(t.Context(), &container.InspectResponse{Config: &container.Config{},
			ContainerJSONBase: &container.ContainerJSONBase{ID: "x", Created: at, HostConfig: &container.HostConfig{},
				State: &container.State{Status: container.StateExited, ExitCode: test.code, OOMKilled: test.oom, StartedAt: at, FinishedAt: at}}})
		if _, remembered := r.ended.get("x"); c.Reason != test.reason || remembered != test.remembered {
			t.Errorf("exit code %d, out of memory %v: %s, remembered %v", test.code, test.oom, c.Reason, remembered)
		}
	}
}
