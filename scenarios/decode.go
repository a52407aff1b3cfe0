package scenarios

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing that is wrong in a scenario file.
type Fault struct {
	File string
	// Line is 0 where it is not known.
	Line int
	// Path is the field: steps[2].scale.replicas; empty for the whole file.
	Path    string
	Message string
}

// Error is "file:line: field: message".
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	if f.Path != "" {
		b.WriteString(": " + f.Path)
	}
	return b.String() + ": " + f.Message
}

// Faults is everything that is wrong with some input, in the order of the files.
type Faults []Fault

// Error has one line a fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

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
	tree := yaml.NewDecoder(bytes.NewReader(data))
	typed := yaml.NewDecoder(bytes.NewReader(data))
	typed.KnownFields(true)
	for {
		var root yaml.Node
		if err := tree.Decode(&root); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			faults = append(faults, syntaxFault(file, err))
			break
		}
		s := &Scenario{File: file, lines: map[string]int{}}
		paths := map[int][]string{}
		index(&root, "", s.lines, paths)
		if err := typed.Decode(s); err != nil {
			faults = append(faults, typeFaults(file, err, paths)...)
			continue
		}
		s.setDefaults()
		if found := s.validate(); len(found) > 0 {
			faults = append(faults, found...)
			continue
		}
		all = append(all, s)
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

// index notes at which line each field stands, and which fields stand at each
// line.
func index(n *yaml.Node, path string, lines map[string]int, paths map[int][]string) {
	if path != "" {
		if _, seen := lines[path]; !seen {
			lines[path] = n.Line
		}
		paths[n.Line] = append(paths[n.Line], path)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, c := range n.Content {
			index(c, path, lines, paths)
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			at := key.Value
			if path != "" {
				at = path + "." + at
			}
			lines[at] = key.Line
			paths[key.Line] = append(paths[key.Line], at)
			index(value, at, lines, paths)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			index(c, fmt.Sprintf("%s[%d]", path, i), lines, paths)
		}
	}
}

var (
	linePrefix   = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownField = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	wrongType    = regexp.MustCompile("^cannot unmarshal !!(\\S+) (?:`(.*)` )?into (\\S+)$")
	duplicateKey = regexp.MustCompile(`^mapping key "(.*)" already defined at line (\d+)$`)
)

func syntaxFault(file string, err error) Fault {
	if m := linePrefix.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1])
		return Fault{File: file, Line: line, Message: "is not YAML: " + m[2]}
	}
	return Fault{File: file, Message: "is not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
}

// typeFaults makes the decoder's errors name the field.
func typeFaults(file string, err error, paths map[int][]string) Faults {
	var typeError *yaml.TypeError
	if !errors.As(err, &typeError) {
		return Faults{syntaxFault(file, err)}
	}
	var faults Faults
	for _, text := range typeError.Errors {
		f := Fault{File: file, Message: text}
		if m := linePrefix.FindStringSubmatch(text); m != nil {
			f.Line, _ = strconv.Atoi(m[1])
			f.Message = m[2]
		}
		at := paths[f.Line]
		switch {
		case unknownField.MatchString(f.Message):
			name := unknownField.FindStringSubmatch(f.Message)[1]
			f.Path = endingIn(at, name)
			f.Message = "unknown field"
		case duplicateKey.MatchString(f.Message):
			m := duplicateKey.FindStringSubmatch(f.Message)
			f.Path = endingIn(at, m[1])
			f.Message = "is given twice, first in line " + m[2]
		case wrongType.MatchString(f.Message):
			m := wrongType.FindStringSubmatch(f.Message)
			f.Path = valueAt(at)
			f.Message = fmt.Sprintf("must be %s, not %s", kindName(m[3]), describe(m[1], m[2]))
		default:
			f.Path = valueAt(at)
		}
		faults = append(faults, f)
	}
	return faults
}

// endingIn is the path at a line whose last field has the name.
func endingIn(paths []string, name string) string {
	for _, p := range paths {
		if p == name || strings.HasSuffix(p, "."+name) {
			return p
		}
	}
	return name
}

// valueAt is the innermost path at a line.
func valueAt(paths []string) string {
	longest := ""
	for _, p := range paths {
		if len(p) > len(longest) {
			longest = p
		}
	}
	return longest
}

func describe(tag, value string) string {
	switch tag {
	case "map":
		return "a mapping"
	case "seq":
		return "a list"
	}
	return strconv.Quote(value)
}

// kindName says what a Go type is in the file.
func kindName(goType string) string {
	switch {
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case goType == "string":
		return "text"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	}
	return "a mapping"
}
