package pod

import "strings"

// Expand replaces each reference $(NAME) in s by what value returns for NAME.
// $$ stands for a dollar sign, so that $$(NAME) is no reference; whatever else
// follows a dollar sign stays as it is, and so does a reference that is not
// closed. What value returns is not expanded again.
//
// The syntax is that of command, args and env of v1.Container.
func Expand(s string, value func(name string) string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		s = after
		if rest, ok := strings.CutPrefix(s, "$"); ok {
			b.WriteByte('$')
			s = rest
			continue
		}
		name, rest, closed := strings.Cut(strings.TrimPrefix(s, "("), ")")
		if !strings.HasPrefix(s, "(") || !closed {
			b.WriteByte('$')
			continue
		}
		b.WriteString(value(name))
		s = rest
	}
}

// Reference is $(name): what stays of a reference to a variable that does not
// exist.
func Reference(name string) string { return "$(" + name + ")" }
