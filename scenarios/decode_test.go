package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// head opens a scenario that needs only steps.
const head = "apiVersion: nodelet.dev/v1alpha1\nkind: Scenario\nname: test\n"

// oneStep closes a scenario that is about something else.
const oneStep = "steps:\n- wait: 1s\n"

func TestDecodeFaults(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"s.yaml: is empty; a scenario begins with apiVersion: nodelet.dev/v1alpha1"}},
		{"no YAML", "a: [1", []string{"s.yaml:1: is not YAML: did not find expected ',' or ']'"}},
		{"another thing", "- 1\n", []string{"s.yaml:1: must be a mapping, not a list"}},
		{"nothing given", "{}\n", []string{
			"s.yaml: apiVersion: must be given: nodelet.dev/v1alpha1",
			"s.yaml: kind: must be given: Scenario",
			"s.yaml: name: must be given",
			"s.yaml: steps: must have at least one step",
		}},
		{"another kind", "apiVersion: v1\nkind: Pod\nname: x\n" + oneStep, []string{
			`s.yaml:1: apiVersion: "v1": must be nodelet.dev/v1alpha1`,
			`s.yaml:2: kind: "Pod": must be Scenario`,
		}},
		{"unknown field", head + "tiemout: 1m\n" + oneStep, []string{
			"s.yaml:4: tiemout: unknown field; did you mean timeout?",
		}},
		{"unknown field, nothing like it", head + "nodes:\n- {name: a, count: 1, flavour: x}\n" + oneStep, []string{
			"s.yaml:5: nodes[0].flavour: unknown field; known are capacity, count, labels, name, taints",
		}},
		{"a misspelt step is told once", head + "steps:\n- aply: {files: [x]}\n", []string{
			"s.yaml:5: steps[0].aply: unknown field; did you mean apply?",
		}},
		{"given twice", head + "seed: 1\nseed: 2\n" + oneStep, []string{
			"s.yaml:5: seed: is given twice, first in line 4",
		}},
		{"wrong types, all of them", head + `seed: many
timeout: soon
nodes:
- name: a
  count: three
  capacity: {cpu: lots, memory: [1]}
  labels: [x]
  taints: [dedicated, "a=b:NoEntry"]
steps: {}
`, []string{
			`s.yaml:4: seed: must be a whole number, 0 or more, not "many"`,
			`s.yaml:5: timeout: "soon": must be a duration such as 30s or 1m30s`,
			`s.yaml:8: nodes[0].count: must be a whole number, not "three"`,
			`s.yaml:9: nodes[0].capacity.cpu: "lots": must be a quantity such as 100m or 2Gi`,
			`s.yaml:9: nodes[0].capacity.memory: must be a quantity such as 100m or 2Gi`,
			`s.yaml:10: nodes[0].labels: must be a mapping, not a list`,
			`s.yaml:11: nodes[0].taints[0]: "dedicated": must be key=value:Effect or key:Effect with NoSchedule, PreferNoSchedule or NoExecute`,
			`s.yaml:11: nodes[0].taints[1]: "a=b:NoEntry": must be key=value:Effect or key:Effect with NoSchedule, PreferNoSchedule or NoExecute`,
			`s.yaml:12: steps: must be a list, not a mapping`,
		}},
		{"bad values", head + `time: slow
start: tomorrow
apiLoad: heavy
controllerManager: {--v: "2"}
nodes:
- {name: A_B, count: 1}
- {name: b, count: 0}
- {name: b, count: 1, labels: {"-": x}}
` + oneStep, []string{
			`s.yaml:4: time: "slow": must be real or virtual`,
			`s.yaml:5: start: "tomorrow": must be a date such as 2026-03-01T00:00:00Z`,
			`s.yaml:6: apiLoad: "heavy": must be faithful or shared`,
			`s.yaml:7: controllerManager.--v: must be a flag without its dashes`,
			`s.yaml:9: nodes[0].name: "A_B": must be lower-case letters, digits and hyphens, 63 at most`,
			`s.yaml:10: nodes[1].count: 0: must be from 1 to 10000`,
			`s.yaml:11: nodes[2].labels.-: must be a label's key: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
			`s.yaml:11: nodes[2].name: "b" is the name of two groups`,
		}},
		{"behaviors", head + `behaviors:
- pods: {selector: "a in b", name: "[", node: "x["}
  pull: 3s-1s
  cpu: -1
  exits: {code: x}
  writes: [{size: 1Mi}, {volume: v, size: much}]
` + oneStep, []string{
			`s.yaml:5: behaviors[0].pods.selector: "a in b": must be a label selector such as app=web: unable to parse requirement: found 'b' expected: '('`,
			`s.yaml:5: behaviors[0].pods.name: "[": must be a name, with * and ? for what may vary`,
			`s.yaml:5: behaviors[0].pods.node: "x[": must be a name, with * and ? for what may vary`,
			`s.yaml:6: behaviors[0].pull: "3s-1s": must be a duration such as 2s, or two such as 1s-3s`,
			`s.yaml:7: behaviors[0].cpu: "-1": must be a quantity such as 100m or 2Gi`,
			`s.yaml:8: behaviors[0].exits.code: must be a whole number, not "x"`,
			`s.yaml:9: behaviors[0].writes[1].size: "much": must be a quantity such as 100m or 2Gi`,
			`s.yaml:9: behaviors[0].writes[0].volume: must be given: the name of a volume of the pod`,
		}},
		{"no action, two actions, an action without a value", head + `steps:
- name: x
- {wait: 1s, restoreNodes: {}}
- restoreNodes:
`, []string{
			"s.yaml:5: steps[0]: must have exactly one of apply, delete, scale, patch, wait, expect, killNodes, restoreNodes, addNodes and setBehaviors, but has none",
			"s.yaml:6: steps[1]: must have exactly one of apply, delete, scale, patch, wait, expect, killNodes, restoreNodes, addNodes and setBehaviors, but has restoreNodes and wait",
			"s.yaml:7: steps[2].restoreNodes: has no value; write {} if it needs none",
		}},
		{"what is missing in steps", head + `steps:
- apply: {}
- delete: {}
- delete: {kind: Pod, name: a, selector: b=c}
- scale: {kind: Deployment}
- scale: {kind: Deployment, name: x, replicas: -1}
- patch: {kind: Pod, name: x}
- patch: {kind: Pod, name: x, patch: [1]}
- patch: {kind: Pod, name: x, type: json, patch: {a: b}}
- killNodes: {}
- killNodes: {selector: a=b, running: {}, count: -1, fault: fire}
`, []string{
			"s.yaml:5: steps[0].apply: must have files or objects",
			"s.yaml:6: steps[1].delete.kind: must be given, such as Deployment, or files",
			"s.yaml:6: steps[1].delete: must have either name or selector",
			"s.yaml:7: steps[2].delete: must have either name or selector",
			"s.yaml:8: steps[3].scale.name: must be given",
			"s.yaml:8: steps[3].scale.replicas: must be a whole number, 0 or more",
			"s.yaml:9: steps[4].scale.replicas: must be a whole number, 0 or more",
			"s.yaml:10: steps[5].patch.patch: must be given",
			"s.yaml:11: steps[6].patch.patch: must be a mapping; a list of operations is type json",
			"s.yaml:12: steps[7].patch.patch: must be a list of operations for type json",
			"s.yaml:13: steps[8].killNodes: must have exactly one of names, selector and running",
			`s.yaml:14: steps[9].killNodes.fault: "fire": must be power or agent or network`,
			"s.yaml:14: steps[9].killNodes.count: -1: must be 1 or more",
			"s.yaml:14: steps[9].killNodes: must have exactly one of names, selector and running",
		}},
		{"nodes that are not there", head + `nodes:
- {name: a, count: 2}
steps:
- addNodes: {name: b, count: 1}
- killNodes: {names: [a-0001, b-0000, a-0002, b-1, nonsense]}
- restoreNodes: {names: [c-0000]}
`, []string{
			`s.yaml:8: steps[1].killNodes.names[2]: "a-0002": is no node of this scenario; nodes are called GROUP-0000 and so on`,
			`s.yaml:8: steps[1].killNodes.names[3]: "b-1": is no node of this scenario; nodes are called GROUP-0000 and so on`,
			`s.yaml:8: steps[1].killNodes.names[4]: "nonsense": is no node of this scenario; nodes are called GROUP-0000 and so on`,
			`s.yaml:9: steps[2].restoreNodes.names[0]: "c-0000": is no node of this scenario; nodes are called GROUP-0000 and so on`,
		}},
		{"expectations", head + `steps:
- expect: {within: 5s}
- expect: {pods: {ready: 1}, nodes: {ready: 1}}
- expect: {pods: {selector: a=b}}
- expect: {pods: {ready: "> x"}}
- expect: {nodes: {}}
- expect: {object: {kind: Pod, name: x}}
- expect: {object: {kind: Pod, name: x, absent: true, cel: "true"}}
- expect: {rollout: {kind: Pod, name: x}}
- expect: {nodes: {ready: 1}, with: {jobs: {kind: Job}}}
`, []string{
			"s.yaml:5: steps[0].expect: must have exactly one of pods, nodes, object, rollout, file and cel",
			"s.yaml:6: steps[1].expect: must have exactly one of pods, nodes, object, rollout, file and cel",
			"s.yaml:7: steps[2].expect.pods: must have a number: count, ready, running, pending, succeeded, failed, terminating or restarts",
			`s.yaml:8: steps[3].expect.pods.ready: "> x": must be a whole number, or a comparison such as ">= 3"`,
			"s.yaml:9: steps[4].expect.nodes: must have a number: count, ready or notReady",
			"s.yaml:10: steps[5].expect.object: must have either cel or absent: true",
			"s.yaml:11: steps[6].expect.object: must have either cel or absent: true",
			`s.yaml:12: steps[7].expect.rollout.kind: "Pod": must be Deployment, StatefulSet or DaemonSet`,
			"s.yaml:13: steps[8].expect.with: is only for cel",
		}},
		{"CEL", head + `steps:
- expect:
    cel: pods.size() ==
- expect:
    cel: pods.size()
- expect:
    cel: podz.size() == 1 && 1 + "a" == 2
- expect:
    object: {kind: Pod, name: x, cel: pods.size() == 1}
- expect:
    cel: jobs.size() == 1
    with: {jobs: {selector: "=="}}
`, []string{
			"s.yaml:6: steps[0].expect.cel: is not CEL: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER} (at character 15)",
			"s.yaml:8: steps[1].expect.cel: gives a value of type int: must give true or false",
			"s.yaml:10: steps[2].expect.cel: is not CEL: undeclared reference to 'podz' (in container '') (at character 1); found no matching overload for '_+_' applied to '(int, string)' (at character 23)",
			"s.yaml:12: steps[3].expect.object.cel: is not CEL: undeclared reference to 'pods' (in container '') (at character 1)",
			"s.yaml:15: steps[4].expect.with.jobs.kind: must be given, such as Job",
			`s.yaml:15: steps[4].expect.with.jobs.selector: "==": must be a label selector such as app=web: found '==', expected: !, identifier, or 'end of string'`,
		}},
		{"inline objects", head + `steps:
- apply:
    objects:
    - {kind: Pod, metadata: {name: x}}
    - text
    - {apiVersion: v1, kind: Pod, metadata: {}}
    - apiVersion: v1
      apiVersion: v1
`, []string{
			"s.yaml:7: steps[0].apply.objects[0]: has no apiVersion",
			"s.yaml:8: steps[0].apply.objects[1]: must be an object with apiVersion, kind and metadata",
			"s.yaml:9: steps[0].apply.objects[2]: has no metadata.name",
			"s.yaml:11: steps[0].apply.objects[3]: apiVersion is given twice, first in line 10",
		}},
		{"the second document", head + oneStep + "---\n" + head + "steps: []\n", []string{
			"s.yaml:10: steps: must have at least one step",
		}},
		{"an anchor within itself", head + "steps: &a\n- apply: {objects: [{x: *a}]}\n", []string{
			"s.yaml:4: the anchor a contains itself",
		}},
		{"merged fields are looked at too", head + "nodes:\n- &a {name: a, count: 1, x: 1}\n- {<<: *a, name: b}\n" + oneStep, []string{
			"s.yaml:5: nodes[0].x: unknown field; known are capacity, count, labels, name, taints",
			"s.yaml:5: nodes[1].x: unknown field; known are capacity, count, labels, name, taints",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := Decode("s.yaml", []byte(test.text))
			var faults Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want faults", err)
			}
			var got []string
			for _, f := range faults {
				got = append(got, f.Error())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	all, err := Decode("s.yaml", []byte(`# A comment first.
---
apiVersion: nodelet.dev/v1alpha1
kind: Scenario
name: one
nodes:
- &small
  name: small
  count: 2
  capacity: {cpu: 2, memory: 4Gi}
  taints: ["a=b:NoSchedule", "c:NoExecute"]
- <<: *small
  name: more
behaviors:
- pods: {selector: app=web}
  pull: 1s-3s
  start: 2s
steps:
- expect: {pods: {ready: ">=3", count: 4}}
- killNodes: {running: {selector: app=web}}
- patch: {kind: Pod, name: x, patch: {a: 1}}
- expect: {nodes: {ready: 1}, within: 5s, for: 1m}
---
apiVersion: nodelet.dev/v1alpha1
kind: Scenario
name: two
timeout: 1m
time: virtual
steps:
- wait: 1m30s
`))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		t.Fatalf("%d scenarios, want 2", len(all))
	}
	s := all[0]
	if s.Timeout.Duration != 10*time.Minute || s.Time != VirtualTime || s.APILoad != "faithful" {
		t.Errorf("defaults: timeout %v, time %v, API load %v", s.Timeout, s.Time, s.APILoad)
	}
	memory := s.Nodes[1].Capacity["memory"]
	if g := s.Nodes[1]; g.Name != "more" || g.Count != 2 || memory.String() != "4Gi" ||
		g.Taints[0] != (Taint{"a", "b", "NoSchedule"}) || g.Taints[1] != (Taint{"c", "", "NoExecute"}) {
		t.Errorf("nodes[1]: %+v", g)
	}
	if b := s.Behaviors[0]; b.Pull != (Range{time.Second, 3 * time.Second}) || b.Start != (Range{2 * time.Second, 2 * time.Second}) {
		t.Errorf("behaviors[0]: %+v", b)
	}
	if e := s.Steps[0].Expect; *e.Pods.Ready != (Count{">=", 3}) || *e.Pods.Count != (Count{"==", 4}) || e.Within.Duration != 30*time.Second {
		t.Errorf("steps[0]: %+v", e)
	}
	if k := s.Steps[1].KillNodes; k.Count != 1 || k.Fault != "power" {
		t.Errorf("steps[1]: %+v", k)
	}
	if p := s.Steps[2].Patch; p.Type != "merge" {
		t.Errorf("steps[2]: %+v", p)
	}
	if e := s.Steps[3].Expect; e.Within.Duration != 5*time.Second || e.For.Duration != time.Minute {
		t.Errorf("steps[3]: %+v", e)
	}
	if s := all[1]; s.Name != "two" || s.Time != VirtualTime || s.Steps[0].Wait.Duration != 90*time.Second {
		t.Errorf("the second: %+v", s)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.yaml", head+oneStep)
	write("a.yml", strings.Replace(head, "test", "first", 1)+oneStep)
	write("manifest.yaml", "kind: Pod\n")
	write("notes.txt", "kind: Scenario\n")
	all, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"first", "test"}, names); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}

	write("c.yaml", head+"steps:\n- apply: {files: [gone.yaml, manifest.yaml]}\n")
	empty := t.TempDir()
	gone := filepath.Join(dir, "gone")
	_, err = Load(filepath.Join(dir, "c.yaml"), gone, empty)
	want := strings.NewReplacer("DIR", dir).Replace(`DIR/c.yaml:5: steps[0].apply.files[0]: DIR/gone.yaml cannot be read: no such file or directory
DIR/c.yaml:5: steps[0].apply.files[1]: DIR/manifest.yaml:1: has no apiVersion
DIR/gone: cannot be read: no such file or directory`)
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	if _, err := Load(empty); err == nil || err.Error() != empty+": holds no scenario" {
		t.Errorf("an empty folder: %v", err)
	}
}

// FuzzDecode looks for input that takes Decode down, or that it refuses without
// saying where.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(head + oneStep))
	f.Add([]byte(head + "steps:\n- expect: {cel: 'pods.size() > 1', with: {x: {kind: Pod}}}\n"))
	f.Add([]byte(head + "nodes: &a\n- {<<: *a}\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte(head + "steps:\n- apply: {objects: [{apiVersion: v1, kind: Pod, metadata: {name: 2020-01-01}}]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := Decode("fuzz.yaml", data)
		var faults Faults
		if err != nil && (!errors.As(err, &faults) || len(faults) == 0) {
			t.Fatalf("an error without faults: %v", err)
		}
		for _, s := range all {
			for i := range s.Steps {
				if s.Steps[i].title() == "" {
					t.Fatalf("step %d has no title", i)
				}
			}
			Script(s.Behaviors)
		}
		for _, fault := range faults {
			if strings.Contains(fault.Error(), "\n") {
				t.Fatalf("a fault of several lines: %q", fault.Error())
			}
		}
	})
}
