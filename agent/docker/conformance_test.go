package docker

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime/podruntimetest"
	"nodelet/internal/dockertest"
)

func TestMain(m *testing.M) { dockertest.Main(m) }

// testRuntime is a runtime on the tests' engine.
func testRuntime(t testing.TB) *Runtime {
	t.Helper()
	engine := dockertest.Shared(t)
	config := DefaultConfig()
	config.Endpoint = engine.Endpoint
	config.PodInfraContainerImage = "pause.test/pause:1"
	config.RequestTimeout = 30 * time.Second
	config.ContainerLogsDirectory = t.TempDir()
	engine.Load(t, config.PodInfraContainerImage)
	r, err := New(config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestConformance(t *testing.T) {
	dockertest.Shared(t)
	host := dockertest.Registry(t, "some/server:v1")
	args := func(args ...string) v1.Container { return v1.Container{Args: args} }
	podruntimetest.Run(t, func(t *testing.T, test func(*testing.T, podruntimetest.Harness)) {
		test(t, podruntimetest.Harness{
			Runtime:      testRuntime(t),
			Image:        host + "/some/server:v1",
			UnknownImage: host + "/none:1",
			Server:       args("serve"),
			Stubborn:     args("stubborn"),
			Fails:        args("exit", "3", "0.5"),
			Completes:    args("exit", "0", "0.5"),
			Prints:       args(append([]string{"print"}, podruntimetest.LogLines[:]...)...),
			CannotStart:  v1.Container{Command: []string{"/no/such/program"}},
			ExecExits:    func(code int) []string { return []string{"/test", "exit", strconv.Itoa(code)} },
			ExecPrints:   func(word string) []string { return []string{"/test", "echo", word} },
			ExecBlocks:   []string{"/test", "sleep", "3600"},
		})
	})
}
