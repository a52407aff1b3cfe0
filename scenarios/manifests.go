package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// readManifests reads the objects of a manifest file, or of the .yaml, .yml and
// .json files of a folder. Lists are taken apart.
func readManifests(name string) ([]map[string]any, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%s %s", name, readError(err))
	}
	files := []string{name}
	if info.IsDir() {
		files = nil
		for _, ext := range []string{"*.json", "*.yaml", "*.yml"} {
			found, err := filepath.Glob(filepath.Join(name, ext))
			if err != nil {
				return nil, fmt.Errorf("%s %s", name, readError(err))
			}
			files = append(files, found...)
		}
	}
	var all []map[string]any
	for _, file := range files {
		objects, err := readManifest(file)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no object", name)
	}
	return all, nil
}

func readManifest(file string) ([]map[string]any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s %s", file, readError(err))
	}
	var all []map[string]any
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for n := 1; ; n++ {
		var object map[string]any
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: object %d is malformed: %v", file, n, err)
		}
		if len(object) == 0 {
			continue
		}
		if items, ok := object["items"].([]any); ok {
			for _, item := range items {
				o, _ := item.(map[string]any)
				if why := notObject(o); why != "" {
					return nil, fmt.Errorf("%s: object %d: an item %s", file, n, why)
				}
				all = append(all, o)
			}
			continue
		}
		if why := notObject(object); why != "" {
			return nil, fmt.Errorf("%s: object %d %s", file, n, why)
		}
		all = append(all, object)
	}
}

// notObject says why something is not a Kubernetes object, or "".
func notObject(object map[string]any) string {
	u := unstructured.Unstructured{Object: object}
	switch {
	case u.GetAPIVersion() == "":
		return "has no apiVersion"
	case u.GetKind() == "":
		return "has no kind"
	case u.GetName() == "":
		return "has no metadata.name"
	}
	return ""
}

// toJSONTypes gives a value the types that JSON decoding gives: the Kubernetes
// libraries know no others.
func toJSONTypes(in map[string]any) (map[string]any, error) {
	data, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("cannot be written as JSON: %w", err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(data, &u.Object); err != nil {
		return nil, fmt.Errorf("cannot be read as JSON: %w", err)
	}
	return normalize(u.Object).(map[string]any), nil
}

// normalize makes whole numbers int64.
func normalize(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = normalize(e)
		}
	case []any:
		for i, e := range v {
			v[i] = normalize(e)
		}
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	}
	return v
}
