package probe

import (
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// expand replaces $(NAME) in a command by the variables that the container's
// spec gives in plain text: an exec probe knows no others. An unknown reference
// stays as it is.
func expand(command []string, env []v1.EnvVar) []string {
	expanded := make([]string, len(command))
	for i, arg := range command {
		expanded[i] = pod.Expand(arg, func(name string) string { return valueOf(name, env) })
	}
	return expanded
}

// valueOf is the variable's value, or the reference as it was written. The last
// of several variables of a name counts.
func valueOf(name string, env []v1.EnvVar) string {
	for i := len(env) - 1; i >= 0; i-- {
		if env[i].Name == name {
			return env[i].Value
		}
	}
	return pod.Reference(name)
}
