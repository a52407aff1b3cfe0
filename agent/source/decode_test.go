package source

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	v1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"nodelet/agent/pod"
)

var testOrigin = origin{source: pod.SourceFile, nodeName: "Node1", place: "/etc/manifests/web.yaml"}

// TestDecode reads manifests as they are in testdata and prints the static pods
// that they become, or the fault. `decode brief` prints only the pods' names,
// UIDs, QoS classes and first pull policies.
func TestDecode(t *testing.T) {
	datadriven.RunTest(t, "testdata/decode", func(t *testing.T, d *datadriven.TestData) string {
		pods, err := decode([]byte(strings.ReplaceAll(d.Input, "¶", "\n")), testOrigin)
		if err != nil {
			return "fault: " + err.Error() + "\n"
		}
		var out strings.Builder
		for _, p := range pods {
			if d.HasArg("brief") {
				fmt.Fprintf(&out, "%s %s %s %s\n", pod.FullName(p), p.UID, p.Status.QOSClass, p.Spec.Containers[0].ImagePullPolicy)
				continue
			}
			if p.Annotations[pod.AnnotationSeen] == "" {
				t.Error("the pod does not say when it was seen")
			}
			p.Annotations[pod.AnnotationSeen] = "SEEN"
			text, err := yaml.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			out.Write(text)
		}
		return out.String()
	})
}

func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]v1.PullPolicy{
		"web":                          v1.PullAlways,
		"web:latest":                   v1.PullAlways,
		"web:latest@sha256:aa":         v1.PullAlways,
		"localhost:5000/web":           v1.PullAlways,
		"localhost:5000/web:1":         v1.PullIfNotPresent,
		"web:1":                        v1.PullIfNotPresent,
		"registry.example/a/b@sha256:": v1.PullIfNotPresent,
		"":                             v1.PullAlways,
	} {
		if got := pullPolicy(image); got != want {
			t.Errorf("image %q: %s, want %s", image, got, want)
		}
	}
}

const simple = `apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: c, image: "web:1"}
`

// The UID tells whether a pod is another one: it changes with what is written
// and where, not with how it is written.
func TestUID(t *testing.T) {
	uid := func(manifest string, o origin) string {
		pods, err := decode([]byte(manifest), o)
		if err != nil {
			t.Fatal(err)
		}
		return string(pods[0].UID)
	}
	base := uid(simple, testOrigin)
	if got := uid("# A comment.\n---\n"+strings.ReplaceAll(simple, `"web:1"`, "web:1"), testOrigin); got != base {
		t.Error("the UID depends on how the manifest is written")
	}
	seen := map[string]string{base: "the manifest"}
	other := func(what, uid string) {
		if was, dup := seen[uid]; dup {
			t.Errorf("the UID with %s is that of %s", what, was)
		}
		seen[uid] = what
	}
	other("another image", uid(strings.ReplaceAll(simple, "web:1", "web:2"), testOrigin))
	o := testOrigin
	o.nodeName = "node2"
	other("another node", uid(simple, o))
	o = testOrigin
	o.place += "x"
	other("another file", uid(simple, o))
	o = testOrigin
	o.source = pod.SourceHTTP
	other("another source", uid(simple, o))
}

// FuzzDecode has no manifest bring the agent down, and every pod that comes out
// be fit to run.
func FuzzDecode(f *testing.F) {
	f.Add(simple)
	f.Add(`{"apiVersion":"v1","kind":"PodList","items":[{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}`)
	f.Add(strings.Replace(simple, "spec:", `spec:
  volumes: [{name: v, hostPath: {path: /x}}, {name: e}]
  initContainers: [{name: i, image: i, ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}, livenessProbe: {httpGet: {port: 80}}}]`, 1))
	f.Add("a: &a [1]\nb: *a\n---\n- 1")
	f.Fuzz(func(t *testing.T, manifest string) {
		pods, err := decode([]byte(manifest), testOrigin)
		if err != nil {
			if len(pods) > 0 {
				t.Fatal("pods beside an error")
			}
			return
		}
		again, err := decode([]byte(manifest), testOrigin)
		if err != nil || len(again) != len(pods) {
			t.Fatalf("decoded again: %v", err)
		}
		for i, p := range pods {
			if errs := validate(p); len(errs) > 0 {
				t.Errorf("a decoded pod is not valid: %v", errs)
			}
			if p.UID == "" || p.UID != again[i].UID || p.Annotations[pod.AnnotationHash] != string(p.UID) || !pod.IsStatic(p) {
				t.Errorf("pod %s: UID %q, then %q, annotations %v", p.Name, p.UID, again[i].UID, p.Annotations)
			}
			fixed := p.DeepCopy()
			setDefaults(fixed)
			if a, b := asJSON(t, fixed), asJSON(t, p); !reflect.DeepEqual(a, b) {
				t.Errorf("defaulting again changed the pod:\n%s\n%s", a, b)
			}
		}
	})
}

func asJSON(t *testing.T, p *v1.Pod) string {
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
