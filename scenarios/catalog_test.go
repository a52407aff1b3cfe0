package scenarios

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestCatalog: every scenario that is given away is valid and says what it is for.
func TestCatalog(t *testing.T) {
	all, err := Load(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Fatalf("only %d scenarios", len(all))
	}
	names := map[string]bool{}
	for _, s := range all {
		if s.Description == "" {
			t.Errorf("%s has no description", s.File)
		}
		if names[s.Name] || s.Name+".yaml" != s.File {
			t.Errorf("%s is called %s", s.File, s.Name)
		}
		names[s.Name] = true
	}
}

// TestDocumentation: every example of the language's description is valid, and
// every field is described.
func TestDocumentation(t *testing.T) {
	data, err := os.ReadFile("../docs/scenarios.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	examples := 0
	for _, part := range strings.Split(text, "```yaml\n")[1:] {
		example, _, _ := strings.Cut(part, "```")
		examples++
		if _, err := Decode("docs/scenarios.md", []byte(example)); err != nil {
			t.Errorf("example %d: %v", examples, err)
		}
	}
	if examples < 6 {
		t.Errorf("only %d examples", examples)
	}
	for _, field := range fieldNames() {
		if !strings.Contains(text, "`"+field+"`") {
			t.Errorf("the field %s is not described", field)
		}
	}
}

// fieldNames are all fields of the language, but for those that an object's
// kind and name consist of.
func fieldNames() []string {
	seen := map[string]bool{"kind": true, "name": true, "apiVersion": true}
	var names []string
	var walk func(reflect.Type)
	walk = func(t reflect.Type) {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[yaml.Unmarshaler]()) {
			return
		}
		for name, field := range fieldsOf(t) {
			if !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
			walk(field)
		}
	}
	walk(reflect.TypeFor[Scenario]())
	return names
}
