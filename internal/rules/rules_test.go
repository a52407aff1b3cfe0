package rules

import (
	"strings"
	"testing"
)

var rules = map[string]func([]*File) []string{
	"imports": Imports, "pure": Pure, "injected": Injected,
	"size": Size, "interfaces": Interfaces, "documented": Documented,
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

// TestRulesBite proves that each rule finds what it is there for.
func TestRulesBite(t *testing.T) {
	files, err := Load("testdata/broken")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"imports": {
			"agent/worker/worker.go imports nodelet/agent/probe: parts do not know each other",
			"agent/worker/worker.go imports nodelet/agent: layer 2 does not import layer 4",
			"agent/worker/worker_test.go imports nodelet/fakeruntime: nothing under agent, tests included",
			"agent/worker/worker.go imports k8s.io/client-go/rest: only agent/kubeapi may",
			"agent/plan/plan.go imports nodelet/agent/worker: layer 1 does not import layer 2",
			"agent/kubeapi/api.go imports nodelet/agent/plan: an adapter imports only",
			"agent/kubeapi/api.go imports nodelet/agent/nowhere: the imported package has no layer",
			"scenarios/s.go imports k8s.io/kubernetes/pkg/kubelet: only simcluster may",
			"scenarios/s.go imports github.com/docker/docker/client: only agent/docker may",
		},
		"pure": {
			"agent/plan/plan.go imports os",
			"time.Now in a pure package",
			"starts no goroutine",
		},
		"injected":   {"rand.IntN; randomness", "os.Getenv; settings"},
		"size":       {"agent/worker/long.go has 5", "tooLong has 7"},
		"interfaces": {"interface Wide has 6 methods"},
		"documented": {"agent/worker has no package comment"},
	} {
		got := strings.Join(rules[name](files), "\n")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("rule %s did not find %q; it found:\n%s", name, w, got)
			}
		}
	}
}
