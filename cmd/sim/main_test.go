package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const valid = `apiVersion: nodelet.dev/v1alpha1
kind: Scenario
name: good
steps:
- wait: 1s
`

// folder makes files and returns where.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestBadInput: each is found before a cluster is started, and told in one line.
func TestBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := folder(t, map[string]string{
		"good.yaml":    valid,
		"bad.yaml":     strings.Replace(valid, "wait", "weit", 1),
		"missing.yaml": strings.Replace(valid, "wait: 1s", "apply: {files: [gone.yaml]}", 1),
		"broken.yaml":  strings.Replace(valid, "wait: 1s", "apply: {files: [m.txt]}", 1),
		"virtual.yaml": valid + "time: virtual\n",
		"flags.yaml":   valid + "controllerManager: {no-such-flag: x}\n",
		"m.txt":        "a: [",
		"there":        "",
	})
	for _, test := range []struct {
		name, args, want string
	}{
		{"no command", "frobnicate", `sim: unknown command "frobnicate" for "sim"`},
		{"unknown flag", "run --fast x", "sim: unknown flag: --fast"},
		{"no file", "run", "sim: requires at least 1 arg(s), only received 0"},
		{"virtual time without its build", "run DIR/virtual.yaml", "sim: virtual time needs the build sim-virtual in the folder of this one: make virtual makes it; or add --time real"},
		{"a clock that there is not", "run --time lunar DIR/good.yaml", "sim: --time lunar: must be real or virtual"},
		{"a file that is not there", "run DIR/gone.yaml", "sim: DIR/gone.yaml: cannot be read: no such file or directory"},
		{"a malformed scenario", "run DIR/good.yaml DIR/bad.yaml", "sim: DIR/bad.yaml:5: steps[0].weit: unknown field; did you mean wait?"},
		{"the same, to be validated", "validate DIR/bad.yaml", "sim: DIR/bad.yaml:5: steps[0].weit: unknown field; did you mean wait?"},
		{"a manifest that is not there", "run DIR/missing.yaml",
			"sim: DIR/missing.yaml:5: steps[0].apply.files[0]: DIR/gone.yaml cannot be read: no such file or directory"},
		{"a malformed manifest", "run DIR/broken.yaml",
			"sim: DIR/broken.yaml:5: steps[0].apply.files[0]: DIR/m.txt:1: is not YAML: did not find expected node content"},
		{"a report that cannot be written", "run DIR/good.yaml --junit DIR/gone/r.xml",
			"sim: the report DIR/gone/r.xml cannot be written: folder DIR/gone: no such file or directory"},
		{"a report that is a folder", "run DIR/good.yaml --json DIR", "sim: the report DIR cannot be written: it is a folder"},
		{"a log that cannot be written", "run DIR/good.yaml --log-file DIR/gone/log", "sim: --log-file: open DIR/gone/log: no such file or directory"},
		{"a kubeconfig that is there", "run DIR/good.yaml --kubeconfig DIR/there", "sim: --kubeconfig DIR/there: the file exists; it would be overwritten"},
		{"the same, for up", "up --kubeconfig DIR/there", "sim: --kubeconfig DIR/there: the file exists; it would be overwritten"},
		{"a kubeconfig that cannot be written", "up --kubeconfig DIR/gone/kc",
			"sim: --kubeconfig DIR/gone/kc: cannot be written: folder DIR/gone: no such file or directory"},
		{"less than no nodes", "up --nodes -1", "sim: --nodes -1: must be 0 or more"},
		{"an address for all to see", "up --kubeconfig DIR/kc --listen 0.0.0.0:0",
			`sim: listen address "0.0.0.0:0": must be a loopback address, such as 127.0.0.1:0`},
		{"a taken port", "up --kubeconfig DIR/kc --listen " + taken.Addr().String(),
			"sim: listening for kubectl on " + taken.Addr().String() + ": address already in use"},
		{"a folder that cannot be", "up --kubeconfig DIR/kc --dir DIR/there/data", "sim: data directory DIR/there/data: not a directory"},
		{"an API load that is not known", "run --time real DIR/good.yaml --api-load heavy", `sim: API load "heavy": must be "faithful" or "shared"`},
		{"a benchmark of nothing", "bench --nodes 0", "sim: --nodes 0: must be from 1 to 10000"},
		{"a benchmark without pods", "bench --pods 0", "sim: --pods 0: must be 1 or more"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), strings.Fields(strings.ReplaceAll(test.args, "DIR", dir)), &stdout, &stderr)
			if code != exitInput {
				t.Errorf("exit code %d, want %d", code, exitInput)
			}
			if stdout.Len() > 0 {
				t.Errorf("on stdout: %s", stdout.String())
			}
			// Progress of what was about to start may come first.
			lines := strings.SplitAfter(stderr.String(), "\n")
			got := strings.Join(lines[max(0, len(lines)-1-strings.Count(test.want+"\n", "\n")):], "")
			if want := strings.ReplaceAll(test.want, "DIR", dir) + "\n"; got != want {
				t.Errorf("got:\n%swant:\n%s", stderr.String(), want)
			}
			if _, err := os.Stat(filepath.Join(dir, "kc")); err == nil {
				t.Error("a kubeconfig was left behind")
			}
		})
	}
}

func TestValidate(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": valid, "b.yaml": strings.Replace(valid, "good", "better", 1)})
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"validate", dir}, &stdout, &stderr); code != exitPassed {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	want := strings.ReplaceAll("DIR/a.yaml: good is valid (1 steps)\nDIR/b.yaml: better is valid (1 steps)\n", "DIR", dir)
	if stdout.String() != want {
		t.Errorf("got:\n%swant:\n%s", stdout.String(), want)
	}
}

func TestVersionAndHelp(t *testing.T) {
	for args, want := range map[string]string{
		"version":  "sim unknown\n",
		"--help":   "Exit codes: 0 passed, 1 an expectation failed, 2 bad input, 3 the cluster failed.",
		"run -h":   "--junit",
		"up -h":    "--kubeconfig",
		"bench -h": "--pods",
	} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitPassed {
			t.Errorf("%s: exit code %d: %s", args, code, stderr.String())
		}
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%s: got %q, want %q in it", args, stdout.String(), want)
		}
	}
}

// TestInterruptedStart: whoever thinks better of it during the start gets no
// cluster and no file.
func TestInterruptedStart(t *testing.T) {
	dir := folder(t, map[string]string{"good.yaml": valid})
	kubeconfig := filepath.Join(dir, "kc")
	for args, want := range map[string]int{
		"up --nodes 1 --kubeconfig " + kubeconfig:                   exitPassed,
		"run --kubeconfig " + kubeconfig + " " + dir:                exitFailed,
		"bench --nodes 1 --pods 1 --api-load shared":                exitFailed,
		"run --time real --api-load shared " + dir + " --seed 7 -v": exitFailed,
		"up --nodes 0 --kubeconfig " + kubeconfig + " -v":           exitPassed,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		var stdout, stderr bytes.Buffer
		if code := run(ctx, strings.Fields(args), &stdout, &stderr); code != want {
			t.Errorf("%s: exit code %d, want %d: %s", args, code, want, stderr.String())
		}
		cancel()
		if _, err := os.Stat(kubeconfig); err == nil {
			t.Errorf("%s: the kubeconfig was left behind", args)
		}
	}
}

// TestRun plays a scenario that passes and one that fails, for real.
func TestRun(t *testing.T) {
	dir := folder(t, map[string]string{
		"a.yaml": `apiVersion: nodelet.dev/v1alpha1
kind: Scenario
name: passes
nodes:
- {name: worker, count: 2}
steps:
- apply: {files: [pod.txt]}
- expect: {pods: {name: hello, ready: 1}}
- killNodes: {running: {name: hello}, fault: network}
- restoreNodes: {}
`,
		"b.yaml": `apiVersion: nodelet.dev/v1alpha1
kind: Scenario
name: fails
nodes:
- {name: worker, count: 1, capacity: {cpu: 100m}}
steps:
- apply: {files: [pod.txt]}
- expect: {pods: {name: hello, ready: 1}, within: 3s}
- wait: 1s
`,
		"pod.txt": `apiVersion: v1
kind: Pod
metadata: {name: hello}
spec: {containers: [{name: main, image: example.com/hello, resources: {requests: {cpu: 200m}}}]}
`,
	})
	junit, asJSON, kubeconfig := filepath.Join(dir, "r.xml"), filepath.Join(dir, "r.json"), filepath.Join(dir, "kc")
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"run", dir, "--junit", junit, "--json", asJSON, "--kubeconfig", kubeconfig}, &stdout, &stderr)
	if code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	for _, want := range []string{"PASS  passes  ", "(4 steps, 1 expectation)\n", "FAIL  fails  ", "(1 step passed, 1 failed, 1 not reached)\n",
		"    expected  pods (hello) ready 1\n", "FailedScheduling  pod/hello  0/1 nodes are available: 1 Insufficient cpu."} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the verdict is without %q:\n%s", want, stdout.String())
		}
	}
	for _, want := range []string{"starting the control plane", "✓ [2/4] expect pods (hello) ready 1", "✗ [2/3] expect pods (hello) ready 1", "stopping the cluster"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("the progress is without %q:\n%s", want, stderr.String())
		}
	}
	for file, want := range map[string]string{junit: `<testsuite name="fails"`, asJSON: `"name": "passes"`} {
		if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%s is without %s: %v", file, want, err)
		}
	}
	if _, err := os.Stat(kubeconfig); err == nil {
		t.Error("the kubeconfig was left behind")
	}
}
