package scenarios

import (
	"fmt"
	"strings"
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

// without leaves out what follows from another fault: those whose field is, or
// is around or inside of, one of the others'.
func (f Faults) without(others Faults) Faults {
	var left Faults
	for _, fault := range f {
		follows := false
		for _, o := range others {
			follows = follows || within(fault.Path, o.Path) || within(o.Path, fault.Path)
		}
		if !follows {
			left = append(left, fault)
		}
	}
	return left
}

// within reports whether a field is another or inside of it.
func within(inner, outer string) bool {
	rest, ok := strings.CutPrefix(inner, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}
