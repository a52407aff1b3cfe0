package scenarios

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sigsyaml "sigs.k8s.io/yaml"
)

func TestCount(t *testing.T) {
	for _, test := range []struct {
		count  Count
		holds  []int
		not    []int
		string string
	}{
		{Count{"==", 3}, []int{3}, []int{2, 4}, "3"},
		{Count{"!=", 3}, []int{2, 4}, []int{3}, "!= 3"},
		{Count{"<", 3}, []int{2}, []int{3, 4}, "< 3"},
		{Count{"<=", 3}, []int{2, 3}, []int{4}, "<= 3"},
		{Count{">", 3}, []int{4}, []int{2, 3}, "> 3"},
		{Count{">=", 3}, []int{3, 4}, []int{2}, ">= 3"},
	} {
		for _, n := range test.holds {
			if !test.count.holds(n) {
				t.Errorf("%v does not hold for %d", test.count, n)
			}
		}
		for _, n := range test.not {
			if test.count.holds(n) {
				t.Errorf("%v holds for %d", test.count, n)
			}
		}
		if got := test.count.String(); got != test.string {
			t.Errorf("got %q, want %q", got, test.string)
		}
	}
}

// TestManifestsLikeKubectl compares what is read with what kubectl's own library
// reads.
func TestManifestsLikeKubectl(t *testing.T) {
	const text = `apiVersion: v1
kind: ConfigMap
metadata:
  name: x
  annotations: {date: 2026-01-02, time: 2026-01-02T03:04:05Z, quoted: "yes"}
  labels: &labels {8080: "port", true: "key", 1.5: "x"}
data: {plain: text, empty: ""}
spec:
  big: 9007199254740993
  octal: 0644
  float: 1.5
  whole: 2.0
  truth: yes
  flags: [on, off, y, n, No, "on", true, False, null, ~]
  text: |
    lines
  same: *labels
`
	file := filepath.Join(t.TempDir(), "m.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	objects, err := readManifests(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := sigsyaml.Marshal(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := sigsyaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want, err := sigsyaml.JSONToYAML(asJSON)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("manifest (-kubectl +ours):\n%s", diff)
	}
}

func TestReadManifests(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good/a.yaml":   "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n",
		"good/c.json":   `{"apiVersion": "v1", "kind": "PodList", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c"}}]}`,
		"good/note.txt": "not: [a manifest",
		"empty.yaml":    "# nothing\n",
		"syntax.yaml":   "apiVersion: v1\nkind: {\n",
		"text.yaml":     "just text\n",
		"noname.yaml":   "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
		"item.yaml":     "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n",
		"twice.yaml":    "apiVersion: v1\nkind: Pod\nkind: Pod\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := readManifests(filepath.Join(dir, "good"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range objects {
		names = append(names, o["metadata"].(map[string]any)["name"].(string))
	}
	if got := strings.Join(names, " "); got != "a b c" {
		t.Errorf("objects %s, want a b c", got)
	}
	for name, want := range map[string]string{
		"empty.yaml":  "DIR/empty.yaml holds no object",
		"gone.yaml":   "DIR/gone.yaml cannot be read: no such file or directory",
		"syntax.yaml": "DIR/syntax.yaml:2: is not YAML: did not find expected node content",
		"text.yaml":   "DIR/text.yaml:1: must be an object with apiVersion, kind and metadata",
		"noname.yaml": "DIR/noname.yaml:1: has no metadata.name",
		"item.yaml":   "DIR/item.yaml:4: has no apiVersion",
		"twice.yaml":  "DIR/twice.yaml:3: kind is given twice, first in line 2",
	} {
		_, err := readManifests(filepath.Join(dir, name))
		if err == nil || strings.ReplaceAll(err.Error(), dir, "DIR") != want {
			t.Errorf("%s: got %v, want %s", name, err, want)
		}
	}
}
