package scenarios

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
		if files, err = manifestFiles(name); err != nil {
			return nil, fmt.Errorf("%s %s", name, readError(err))
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

// manifestFiles are the manifests of a folder, in order of their names.
func manifestFiles(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(folder, e.Name()))
		}
	}
	return files, nil
}

// readManifest reads the objects of one file. JSON is YAML too.
func readManifest(file string) ([]map[string]any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s %s", file, readError(err))
	}
	var all []map[string]any
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, syntaxFault(file, err)
		}
		for _, n := range objectNodes(document.Content) {
			var object Object
			if err := n.Decode(&object); err != nil {
				return nil, typeFaults(file, err, nil)[0]
			}
			all = append(all, object)
		}
	}
}

// objectNodes leaves out empty documents and takes lists apart.
func objectNodes(documents []*yaml.Node) []*yaml.Node {
	var all []*yaml.Node
	for _, n := range documents {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
			continue
		}
		if kind, items := field(n, "kind"), field(n, "items"); kind != nil && items != nil &&
			strings.HasSuffix(kind.Value, "List") && items.Kind == yaml.SequenceNode {
			all = append(all, items.Content...)
			continue
		}
		all = append(all, n)
	}
	return all
}

// field is the value of a key, or nil.
func field(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
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
