package scenarios

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Load reads scenario files and, of folders, every .yaml file in them that
// holds a scenario. The error is Faults, which names everything wrong in any of
// them, or says what could not be read.
func Load(paths ...string) ([]*Scenario, error) {
	var all []*Scenario
	var faults Faults
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			faults = append(faults, Fault{File: path, Message: readError(err)})
			continue
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				faults = append(faults, Fault{File: file, Message: readError(err)})
				continue
			}
			scenarios, err := Decode(file, data)
			var found Faults
			if errors.As(err, &found) {
				faults = append(faults, found...)
			}
			all = append(all, scenarios...)
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	if len(all) == 0 {
		return nil, Faults{{File: strings.Join(paths, ", "), Message: "holds no scenario"}}
	}
	return all, nil
}

// readError leaves out the path, which the fault has already.
func readError(err error) string {
	var pathError *os.PathError
	if errors.As(err, &pathError) {
		return "cannot be read: " + pathError.Err.Error()
	}
	return "cannot be read: " + err.Error()
}

// expand returns the files that a path stands for.
func expand(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		file := filepath.Join(path, e.Name())
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// Manifests may stand beside scenarios.
		if bytes.Contains(data, []byte("kind: "+Kind)) {
			files = append(files, file)
		}
	}
	return files, nil
}

// Decode reads the scenarios of one file. Relative paths in it are resolved
// against the file's folder. The error is Faults.
func Decode(file string, data []byte) ([]*Scenario, error) {
	var all []*Scenario
	var faults Faults
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			faults = append(faults, syntaxFault(file, err))
			break
		}
		for _, root := range document.Content {
			if root.ShortTag() == "!!null" {
				continue
			}
			s, found := decodeDocument(file, root)
			all = append(all, s)
			faults = append(faults, found...)
		}
	}
	if len(all) == 0 && len(faults) == 0 {
		faults = append(faults, Fault{File: file, Message: "is empty; a scenario begins with apiVersion: " + APIVersion})
	}
	if len(faults) > 0 {
		slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
		return nil, faults
	}
	return all, nil
}

// decodeDocument reads one scenario and returns all that is wrong with it.
func decodeDocument(file string, root *yaml.Node) (*Scenario, Faults) {
	if n := cyclic(root, map[*yaml.Node]bool{}); n != nil {
		return nil, Faults{{File: file, Line: n.Line, Message: fmt.Sprintf("the anchor %s contains itself", n.Anchor)}}
	}
	checked := &strict{file: file, lines: map[string]int{}}
	checked.check(root, reflect.TypeFor[Scenario](), "")
	s := &Scenario{File: file, lines: checked.lines}
	if root.Kind != yaml.MappingNode || checked.twice {
		return s, checked.faults
	}
	if err := root.Decode(s); err != nil && len(checked.faults) == 0 {
		return s, typeFaults(file, err, nil)
	}
	s.setDefaults()
	return s, append(checked.faults, s.validate().without(checked.faults)...)
}

var (
	linePrefix   = regexp.MustCompile(`^(?:yaml: )?line (\d+): (?s:(.*))$`)
	wrongType    = regexp.MustCompile("^cannot unmarshal !!(\\S+) (?:`(?s:(.*))` )?into (\\S+)$")
	duplicateKey = regexp.MustCompile(`^mapping key "(?s:(.*))" already defined at line (\d+)$`)
)

// cutLine takes the line's number from one of the decoder's errors; 0 if there
// is none.
func cutLine(text string) (line int, message string) {
	m := linePrefix.FindStringSubmatch(text)
	if m == nil {
		return 0, strings.TrimPrefix(text, "yaml: ")
	}
	line, _ = strconv.Atoi(m[1])
	return line, m[2]
}

func syntaxFault(file string, err error) Fault {
	line, message := cutLine(err.Error())
	return Fault{File: file, Line: line, Message: "is not YAML: " + message}
}
