// Package podenv makes what a container finds around it, as the kubelet does:
// its environment, command and arguments (Resolve, Expand), its host name
// (Hostname), its resolver (DNS) and its hosts file (Hosts); and it says which
// config maps and secrets a pod needs for all that and for its volumes
// (References). What a user knows from
// https://kubernetes.io/docs/tasks/inject-data-application and
// https://kubernetes.io/docs/concepts/services-networking/dns-pod-service holds
// here.
//
// It is layer 1: pure. All functions may be called concurrently.
package podenv

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Input is what a container's environment is made from. Nothing of it is
// changed.
type Input struct {
	Pod       *v1.Pod
	Container *v1.Container
	// PodIPs are the pod's addresses. A pod on the host's network that has none
	// (yet) has the host's.
	PodIPs []string
	// HostIPs are the node's addresses, primary first: one or one of each family.
	HostIPs []string
	// NodeName is the node that runs the pod.
	NodeName string
	// Allocatable is the node's: the limit of a container that has none.
	Allocatable v1.ResourceList
	// ConfigMap and Secret return an object in the pod's namespace. An error for
	// which apierrors.IsNotFound holds is none for an optional reference; any
	// other, and every error of a required one, becomes Resolve's.
	ConfigMap func(name string) (*v1.ConfigMap, error)
	Secret    func(name string) (*v1.Secret, error)
	// Services are at least those of the pod's namespace, and default/kubernetes.
	// Their order has no effect.
	Services []*v1.Service
}

// Resolve returns the container's environment: each variable once, first those
// of services, then those of envFrom, then those of env. Of several with one
// name the later wins, at the place of the earlier. The order is always the
// same for the same input.
//
// An error's text is what the kubelet gives as message of the waiting reason
// CreateContainerConfigError, such as
//
//	configmap "x" not found
//	couldn't find key k in Secret ns/x
//
// Names that come from a config map or a secret are taken as they are, as the
// kubelet does since RelaxedEnvironmentVariableValidation.
func Resolve(in Input) ([]podruntime.EnvVar, error) {
	r := &resolver{Input: in, index: map[string]int{}}
	r.addServices()
	for i := range in.Container.EnvFrom {
		if err := r.addFrom(&in.Container.EnvFrom[i]); err != nil {
			return nil, err
		}
	}
	for i := range in.Container.Env {
		e := &in.Container.Env[i]
		value, ok, err := r.value(e)
		if err != nil {
			return nil, err
		}
		if ok {
			r.set(e.Name, value)
		}
	}
	return r.env, nil
}

// resolver is an environment in the making.
type resolver struct {
	Input
	env []podruntime.EnvVar
	// index is where in env a name is.
	index map[string]int
}

func (r *resolver) set(name, value string) {
	if i, ok := r.index[name]; ok {
		r.env[i].Value = value
		return
	}
	r.index[name] = len(r.env)
	r.env = append(r.env, podruntime.EnvVar{Name: name, Value: value})
}

// addFrom takes in all of a config map or of a secret.
func (r *resolver) addFrom(from *v1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		ref := from.ConfigMapRef
		m, err := found(r.ConfigMap, ref.Name, ref.Optional)
		if m == nil || err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(m.Data)) {
			r.set(from.Prefix+key, m.Data[key])
		}
	case from.SecretRef != nil:
		ref := from.SecretRef
		s, err := found(r.Secret, ref.Name, ref.Optional)
		if s == nil || err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			r.set(from.Prefix+key, string(s.Data[key]))
		}
	}
	return nil
}

// found returns an object, or nil if it does not exist and need not.
func found[T any](get func(string) (*T, error), name string, optional *bool) (*T, error) {
	o, err := get(name)
	if err != nil {
		if isTrue(optional) && apierrors.IsNotFound(err) {
			err = nil
		}
		return nil, err
	}
	return o, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// value returns a variable's value; false if there is none and need not be one.
func (r *resolver) value(e *v1.EnvVar) (string, bool, error) {
	from := e.ValueFrom
	switch {
	case e.Value != "" || from == nil:
		return pod.Expand(e.Value, r.lookup), true, nil
	case from.FieldRef != nil:
		value, err := r.field(from.FieldRef)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := r.resourceField(from.ResourceFieldRef)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		return r.configMapKey(from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return r.secretKey(from.SecretKeyRef)
	case from.FileKeyRef != nil:
		return "", false, fmt.Errorf("environment variable %s: fileKeyRef is not supported", e.Name)
	}
	return "", true, nil
}

func (r *resolver) lookup(name string) string {
	if i, ok := r.index[name]; ok {
		return r.env[i].Value
	}
	return pod.Reference(name)
}

func (r *resolver) configMapKey(ref *v1.ConfigMapKeySelector) (string, bool, error) {
	m, err := found(r.ConfigMap, ref.Name, ref.Optional)
	if m == nil || err != nil {
		return "", false, err
	}
	value, ok := m.Data[ref.Key]
	if !ok && !isTrue(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in ConfigMap %v/%v", ref.Key, r.Pod.Namespace, ref.Name)
	}
	return value, ok, nil
}

func (r *resolver) secretKey(ref *v1.SecretKeySelector) (string, bool, error) {
	s, err := found(r.Secret, ref.Name, ref.Optional)
	if s == nil || err != nil {
		return "", false, err
	}
	value, ok := s.Data[ref.Key]
	if !ok && !isTrue(ref.Optional) {
		return "", false, fmt.Errorf("couldn't find key %v in Secret %v/%v", ref.Key, r.Pod.Namespace, ref.Name)
	}
	return string(value), ok, nil
}

// Expand replaces $(NAME) in a command or in arguments by the variables' values;
// $$ is a dollar sign, and a reference to an unknown variable stays as it is.
// Nil stays nil.
func Expand(command []string, env []podruntime.EnvVar) []string {
	if command == nil {
		return nil
	}
	values := valuesOf(env)
	expanded := make([]string, len(command))
	for i, arg := range command {
		expanded[i] = pod.Expand(arg, func(name string) string {
			if value, ok := values[name]; ok {
				return value
			}
			return pod.Reference(name)
		})
	}
	return expanded
}

// ExpandSubPath replaces $(NAME) in a mount's subPathExpr. Unlike in a command,
// a variable that is unknown or empty is an error, which names all of them.
func ExpandSubPath(expr string, env []podruntime.EnvVar) (string, error) {
	values := valuesOf(env)
	missing := map[string]bool{}
	path := pod.Expand(expr, func(name string) string {
		if values[name] == "" {
			missing[name] = true
		}
		return values[name]
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("missing value for %s", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
	}
	return path, nil
}

func valuesOf(env []podruntime.EnvVar) map[string]string {
	values := make(map[string]string, len(env))
	for _, e := range env {
		values[e.Name] = e.Value
	}
	return values
}
