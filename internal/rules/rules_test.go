package rules

import (
	"strings"
	"testing"
)

var rules = map[string]func([]*File) []string{
	"imports": Imports, "pure": Pure, "injected": Injected,
	"size": Size, "interfaces": Interfaces, "constructors": Constructors, "documented": Documented,
}

// TestHouse holds the project to its rules.
func TestHouse(t *testing.T) {
	files, err := Load("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files were found", len(files))
	}
	for name, rule := range rules {
		for _, fault := range rule(files) {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// TestRulesBite proves that each rule finds what it is there for, and nothing
// else.
func TestRulesBite(t *testing.T) {
	files, err := Load("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"imports": {
			"agent/worker/worker.go imports nodelet/agent/probe: parts do not know each other",
			"agent/worker/worker.go imports nodelet/agent: layer 2 does not import layer 4",
			"agent/worker/worker.go imports k8s.io/client-go/rest: only agent/kubeapi may",
			"agent/worker/worker_test.go imports nodelet/fakeruntime: nothing of the agent, tests included",
			"agent/plan/plan.go imports nodelet/agent/worker: layer 1 does not import layer 2",
			"agent/kubeapi/api.go imports nodelet/agent/plan: an adapter imports only",
			"agent/kubeapi/api.go imports nodelet/agent/nowhere: the imported package has no layer",
			"agent/stray/stray.go imports nodelet/agent/pod: this package has no layer",
			"cmd/agent/main.go imports nodelet/simcluster: nothing of the agent",
			"scenarios/s.go imports k8s.io/kubernetes/pkg/kubelet: only simcluster may",
			"scenarios/s.go imports github.com/docker/docker/client: only agent/docker, internal/dockertest may",
			"scenarios/s.go imports github.com/moby/moby/client: only agent/docker may",
			"scenarios/s.go imports github.com/google/cadvisor/manager: only agent/cadvisor may",
		},
		"pure": {
			"agent/plan/plan.go imports os: ",
			"agent/plan/plan.go imports net/http: ",
			"agent/plan/plan.go:14: time.Now in a pure package",
			"agent/plan/plan.go:15: time.Sleep in a pure package",
			"agent/plan/plan.go:18: a pure package starts no goroutine",
		},
		"injected": {
			"agent/worker/worker.go:14: math/rand/v2.IntN; randomness",
			"agent/worker/worker.go:15: os.Getenv; settings",
		},
		"size":         {"agent/worker/long.go has 5", "tooLong has 7"},
		"interfaces":   {"interface Wide has 6 methods"},
		"constructors": {"agent/worker/worker.go:30: NewMany has 5 parameters"},
		"documented":   {"agent/worker has no package comment", "agent/stray has no package comment"},
	} {
		got := rules[name](files)
		if len(got) != len(want) {
			t.Errorf("rule %s found %d faults, want %d", name, len(got), len(want))
		}
		for _, w := range want {
			if all := strings.Join(got, "\n"); !strings.Contains(all, w) {
				t.Errorf("rule %s did not find %q; it found:\n%s", name, w, all)
			}
		}
	}
}
