package scenarios

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// strict compares a YAML tree with the types of the language: it finds unknown
// fields, fields given twice and values of the wrong type, all of them, and
// notes at which line each field stands.
type strict struct {
	file   string
	lines  map[string]int
	faults Faults
	// twice says that some mapping has a field twice: the decoder leaves out
	// all of it.
	twice bool
	// mappings is how many were looked at, those that aliases repeat too.
	mappings int
}

// maxMappings bounds the work that aliases of aliases can make.
const maxMappings = 1_000_000

var unmarshaler = reflect.TypeFor[yaml.Unmarshaler]()

func (s *strict) fault(n *yaml.Node, path, format string, args ...any) {
	s.faults = append(s.faults, Fault{File: s.file, Line: n.Line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// check compares a value with a type.
func (s *strict) check(n *yaml.Node, t reflect.Type, path string) {
	if _, seen := s.lines[path]; !seen && path != "" {
		s.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		s.checkDecoding(n, t, path)
		return
	}
	switch t.Kind() {
	case reflect.Pointer:
		if n.ShortTag() == "!!null" && t.Elem().Kind() == reflect.Struct {
			s.fault(n, path, "has no value; write {} if it needs none")
			return
		}
		s.check(n, t.Elem(), path)
	case reflect.Struct:
		s.checkStruct(n, t, path)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			s.fault(n, path, "must be a list, not %s", describe(n))
			return
		}
		for i, c := range n.Content {
			s.check(c, t.Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		s.eachField(n, path, func(key *yaml.Node, value *yaml.Node, at string) { s.check(value, t.Elem(), at) })
	case reflect.Interface:
	default:
		s.checkDecoding(n, t, path)
	}
}

// checkStruct compares a mapping with a struct.
func (s *strict) checkStruct(n *yaml.Node, t reflect.Type, path string) {
	fields := fieldsOf(t)
	s.eachField(n, path, func(key, value *yaml.Node, at string) {
		field, known := fields[key.Value]
		if !known {
			s.fault(key, at, "unknown field; %s", suggest(key.Value, fields))
			return
		}
		s.check(value, field, at)
	})
}

// eachField calls do for the fields of a mapping, those that are merged into it
// too.
func (s *strict) eachField(n *yaml.Node, path string, do func(key, value *yaml.Node, at string)) {
	if n.Kind != yaml.MappingNode {
		s.fault(n, path, "must be a mapping, not %s", describe(n))
		return
	}
	if s.mappings++; s.mappings > maxMappings {
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			s.eachMerged(value, path, do)
			continue
		}
		at := key.Value
		if path != "" {
			at = path + "." + at
		}
		if line, twice := seen[key.Value]; twice {
			s.fault(key, at, "is given twice, first in line %d", line)
			s.twice = true
			continue
		}
		seen[key.Value] = key.Line
		s.lines[at] = key.Line
		do(key, value, at)
	}
}

// eachMerged calls do for the fields that a << brings in.
func (s *strict) eachMerged(n *yaml.Node, path string, do func(key, value *yaml.Node, at string)) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.SequenceNode {
		s.eachField(n, path, do)
		return
	}
	for _, c := range n.Content {
		if c.Kind == yaml.AliasNode {
			c = c.Alias
		}
		s.eachField(c, path, do)
	}
}

// cyclic returns a node that contains itself by way of an alias, or nil. seen is
// false for the nodes around n, true for those that were found to be fine.
func cyclic(n *yaml.Node, seen map[*yaml.Node]bool) *yaml.Node {
	if fine, met := seen[n]; met {
		if fine {
			return nil
		}
		return n
	}
	seen[n] = false
	inside := n.Content
	if n.Kind == yaml.AliasNode {
		inside = []*yaml.Node{n.Alias}
	}
	for _, c := range inside {
		if found := cyclic(c, seen); found != nil {
			return found
		}
	}
	seen[n] = true
	return nil
}

// checkDecoding decodes a value for the sake of the error.
func (s *strict) checkDecoding(n *yaml.Node, t reflect.Type, path string) {
	err := n.Decode(reflect.New(t).Interface())
	if err == nil && n.ShortTag() == "!!null" {
		s.fault(n, path, "has no value")
	}
	if err == nil {
		return
	}
	for _, f := range typeFaults(s.file, err, func(string) string { return kindName(t) }) {
		f.Path = path
		if f.Line == 0 {
			f.Line = n.Line
		}
		s.faults = append(s.faults, f)
	}
}

// typeFaults are the decoder's errors as faults. name says what was wanted; nil
// leaves the decoder's words.
func typeFaults(file string, err error, name func(string) string) Faults {
	var typeError *yaml.TypeError
	if !errors.As(err, &typeError) {
		return Faults{syntaxFault(file, err)}
	}
	var faults Faults
	for _, text := range typeError.Errors {
		f := Fault{File: file, Message: text}
		f.Line, f.Message = cutLine(text)
		if m := wrongType.FindStringSubmatch(f.Message); m != nil && name != nil {
			f.Message = fmt.Sprintf("must be %s, not %s", name(m[3]), describeTag(m[1], m[2]))
		}
		if m := duplicateKey.FindStringSubmatch(f.Message); m != nil {
			f.Message = fmt.Sprintf("%s is given twice, first in line %s", m[1], m[2])
		}
		faults = append(faults, f)
	}
	return faults
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	return describeTag(n.ShortTag(), n.Value)
}

func describeTag(tag, value string) string {
	switch strings.TrimPrefix(tag, "!!") {
	case "map":
		return "a mapping"
	case "seq":
		return "a list"
	case "null":
		return "nothing"
	}
	return fmt.Sprintf("%q", value)
}

// kindName says what a Go type is in the file.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint32, reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Bool:
		return "true or false"
	}
	return "text"
}

// fieldsOf are the types of a struct's fields by their name in the file.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case option == "inline":
			maps.Copy(fields, fieldsOf(f.Type))
		case name != "" && name != "-":
			fields[name] = f.Type
		}
	}
	return fields
}

// suggest says what may have been meant.
func suggest(name string, fields map[string]reflect.Type) string {
	known := slices.Sorted(maps.Keys(fields))
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known are " + strings.Join(known, ", ")
}

// distance is how many letters have to be changed, added or left out to make one
// word of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
