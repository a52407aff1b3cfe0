package scenarios

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); -update writes it anew:\n%s", file, diff)
	}
}

// results are one scenario of each outcome.
func results(t *testing.T) []*Result {
	t.Helper()
	scenario := func(name string) *Scenario {
		all, err := Decode(name+".yaml", []byte("apiVersion: nodelet.dev/v1alpha1\nkind: Scenario\nname: "+name+
			"\nseed: 7\nsteps:\n- wait: 1s\n- expect: {nodes: {ready: 1}}\n- wait: 2s\n"))
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	start := StepResult{Name: "start nodes", Took: 1500 * time.Millisecond}
	unmet := &ExpectationError{
		Want: "nodes ready 1", Within: 30 * time.Second, For: 5 * time.Second, Held: true,
		Seen: []Seen{{0, "ready 0, of 1"}, {1234 * time.Millisecond, "ready 1, of 1"}, {20 * time.Second, "ready 0, of 1"}}, Changes: 9,
		Events: []string{`   -3.0s  Warning NodeNotReady  node/a-0000  Node a-0000 status is now: <NodeNotReady> & "more"`},
	}
	timeout := &ExpectationError{Want: "nodes ready 1", Within: time.Minute, Seen: []Seen{{0, "ready 0, of 1"}},
		Cut: errors.New("the scenario's timeout of 20s is over")}
	return []*Result{
		{Scenario: scenario("good"), Took: 5 * time.Second, Steps: []StepResult{start, {Name: "wait 1s", Took: time.Second},
			{Name: "expect nodes ready 1"}, {Name: "wait 2s", Took: 2 * time.Second, Detail: "of a kind"}}},
		{Scenario: scenario("unmet"), Took: 33 * time.Second, Steps: []StepResult{start, {Name: "wait 1s", Took: time.Second},
			{Name: "expect nodes ready 1", Took: 30 * time.Second, Err: unmet}, {Name: "wait 2s", Skipped: true}}},
		{Scenario: scenario("timeout"), Took: 20 * time.Second, Steps: []StepResult{start, {Name: "wait 1s", Took: time.Second},
			{Name: "expect nodes ready 1", Took: 17 * time.Second, Err: timeout}, {Name: "wait 2s", Skipped: true}}},
		{Scenario: scenario("refused"), Took: 2 * time.Second, Steps: []StepResult{start, {Name: "wait 1s",
			Err: errors.New(`applying Pod x: pods "x" is forbidden`)}, {Name: "expect nodes ready 1", Skipped: true}, {Name: "wait 2s", Skipped: true}}},
		{Scenario: scenario("violated"), Took: 5 * time.Second, Violations: []string{"node a-0000: container c runs twice"},
			Steps: []StepResult{start, {Name: "wait 1s"}, {Name: "expect nodes ready 1"}, {Name: "wait 2s"}}},
	}
}

func TestVerdicts(t *testing.T) {
	var out bytes.Buffer
	for _, r := range results(t) {
		if err := WriteVerdict(&out, r); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "verdicts.txt", out.String())
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	if err := WriteJSON(&out, results(t)); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(out.Bytes()) {
		t.Error("not JSON")
	}
	golden(t, "report.json", out.String())
}

// TestSeenJSON: what was written can be read.
func TestSeenJSON(t *testing.T) {
	want := Seen{1234567891 * time.Nanosecond, "ready 1"}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Seen
	if err := json.Unmarshal(data, &got); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if string(data) != `{"seconds":1.234567891,"saw":"ready 1"}` {
		t.Errorf("written as %s", data)
	}
}

func TestWriteJUnit(t *testing.T) {
	var out bytes.Buffer
	if err := WriteJUnit(&out, results(t)); err != nil {
		t.Fatal(err)
	}
	var any struct{}
	if err := xml.Unmarshal(out.Bytes(), &any); err != nil {
		t.Errorf("not XML: %v", err)
	}
	golden(t, "report.xml", out.String())
}
