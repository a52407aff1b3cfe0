package probe

import (
	"strings"

	v1 "k8s.io/api/core/v1"
)

// expand replaces $(NAME) in a command by the variables that the container's
// spec gives in plain text: an exec probe knows no others. An unknown reference
// stays as it is, and $$ is a dollar sign.
func expand(command []string, env []v1.EnvVar) []string {
	expanded := make([]string, len(command))
	for i, arg := range command {
		expanded[i] = expandOne(arg, env)
	}
	return expanded
}

func expandOne(s string, env []v1.EnvVar) string {
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
		b.WriteString(valueOf(name, env))
		s = rest
	}
}

// valueOf is the variable's value, or the reference as it was written. The last
// of several variables of a name counts.
func valueOf(name string, env []v1.EnvVar) string {
	for i := len(env) - 1; i >= 0; i-- {
		if env[i].Name == name {
			return env[i].Value
		}
	}
	return "$(" + name + ")"
}
