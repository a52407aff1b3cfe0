package source

import (
	"maps"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validate finds what nobody else would: a static pod runs whatever the API
// server says of its mirror. It checks what would hurt the node or stay undone
// without a word, not every rule of the API server.
func validate(p *v1.Pod) field.ErrorList {
	errs := validateMeta(p)
	spec, at := &p.Spec, field.NewPath("spec")
	errs = append(errs, oneOf(at.Child("restartPolicy"), spec.RestartPolicy,
		v1.RestartPolicyAlways, v1.RestartPolicyOnFailure, v1.RestartPolicyNever)...)
	errs = append(errs, oneOf(at.Child("dnsPolicy"), spec.DNSPolicy,
		v1.DNSClusterFirst, v1.DNSClusterFirstWithHostNet, v1.DNSDefault, v1.DNSNone)...)
	if s := spec.ActiveDeadlineSeconds; s != nil && *s < 1 {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *s, "must be 1 or more"))
	}
	if spec.Hostname != "" {
		errs = append(errs, label(at.Child("hostname"), spec.Hostname)...)
	}
	if len(spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(at.Child("ephemeralContainers"), "a pod cannot begin with them"))
	}
	volumes, volumeErrs := validateVolumes(spec.Volumes, at.Child("volumes"))
	errs = append(errs, volumeErrs...)
	if len(spec.Containers) == 0 {
		errs = append(errs, field.Required(at.Child("containers"), ""))
	}
	v := containerValidator{volumes: volumes, names: map[string]bool{}, hostPorts: map[v1.ContainerPort]bool{},
		hostNetwork: spec.HostNetwork}
	for i := range spec.InitContainers {
		c, at := &spec.InitContainers[i], at.Child("initContainers").Index(i)
		errs = append(errs, v.container(c, at)...)
		errs = append(errs, v.initContainer(c, at)...)
	}
	for i := range spec.Containers {
		errs = append(errs, v.container(&spec.Containers[i], at.Child("containers").Index(i))...)
	}
	return append(errs, references(spec, at)...)
}

func validateMeta(p *v1.Pod) field.ErrorList {
	at := field.NewPath("metadata")
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(p.Name) {
		errs = append(errs, field.Invalid(at.Child("name"), p.Name, msg))
	}
	errs = append(errs, label(at.Child("namespace"), p.Namespace)...)
	// The UID becomes part of paths.
	for _, msg := range content.IsPathSegmentName(string(p.UID)) {
		errs = append(errs, field.Invalid(at.Child("uid"), p.UID, msg))
	}
	errs = append(errs, metav1validation.ValidateLabels(p.Labels, at.Child("labels"))...)
	return append(errs, apivalidation.ValidateAnnotations(p.Annotations, at.Child("annotations"))...)
}

func label(at *field.Path, value string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Label(value) {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func oneOf[T ~string](at *field.Path, value T, allowed ...T) field.ErrorList {
	if slices.Contains(allowed, value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, value, allowed)}
}

func validateVolumes(volumes []v1.Volume, at *field.Path) (map[string]bool, field.ErrorList) {
	names := map[string]bool{}
	var errs field.ErrorList
	for i := range volumes {
		v, at := &volumes[i], at.Index(i)
		errs = append(errs, label(at.Child("name"), v.Name)...)
		if names[v.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), v.Name))
		}
		names[v.Name] = true
		if n := sources(&v.VolumeSource); n > 1 {
			errs = append(errs, field.Forbidden(at, "a volume has one source"))
		}
		if h := v.HostPath; h != nil {
			errs = append(errs, validateHostPath(h.Path, at.Child("hostPath", "path"))...)
		}
	}
	return names, errs
}

func validateHostPath(p string, at *field.Path) field.ErrorList {
	if p == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return noBacksteps(p, at)
}

func noBacksteps(p string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

// containerValidator checks the containers of one pod, of which some things must
// be unique.
type containerValidator struct {
	volumes     map[string]bool
	names       map[string]bool
	hostPorts   map[v1.ContainerPort]bool
	hostNetwork bool
}

func (v *containerValidator) initContainer(c *v1.Container, at *field.Path) field.ErrorList {
	if c.RestartPolicy != nil && *c.RestartPolicy == v1.ContainerRestartPolicyAlways {
		return nil
	}
	if c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil || c.Lifecycle != nil {
		return field.ErrorList{field.Forbidden(at, "probes and lifecycle are for init containers of restartPolicy Always only")}
	}
	return nil
}

func (v *containerValidator) container(c *v1.Container, at *field.Path) field.ErrorList {
	errs := label(at.Child("name"), c.Name)
	if v.names[c.Name] {
		errs = append(errs, field.Duplicate(at.Child("name"), c.Name))
	}
	v.names[c.Name] = true
	if c.Image == "" {
		errs = append(errs, field.Required(at.Child("image"), ""))
	} else if strings.TrimSpace(c.Image) != c.Image {
		errs = append(errs, field.Invalid(at.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, oneOf(at.Child("imagePullPolicy"), c.ImagePullPolicy, v1.PullAlways, v1.PullIfNotPresent, v1.PullNever)...)
	errs = append(errs, oneOf(at.Child("terminationMessagePolicy"), c.TerminationMessagePolicy,
		v1.TerminationMessageReadFile, v1.TerminationMessageFallbackToLogsOnError)...)
	for i := range c.Ports {
		errs = append(errs, v.port(&c.Ports[i], at.Child("ports").Index(i))...)
	}
	for i := range c.Env {
		for _, msg := range validation.IsRelaxedEnvVarName(c.Env[i].Name) {
			errs = append(errs, field.Invalid(at.Child("env").Index(i).Child("name"), c.Env[i].Name, msg))
		}
	}
	errs = append(errs, v.mounts(c.VolumeMounts, at.Child("volumeMounts"))...)
	errs = append(errs, validateResources(&c.Resources, at.Child("resources"))...)
	errs = append(errs, validateProbe(c.LivenessProbe, at.Child("livenessProbe"), true)...)
	errs = append(errs, validateProbe(c.ReadinessProbe, at.Child("readinessProbe"), false)...)
	errs = append(errs, validateProbe(c.StartupProbe, at.Child("startupProbe"), true)...)
	if l := c.Lifecycle; l != nil {
		errs = append(errs, validateHook(l.PostStart, at.Child("lifecycle", "postStart"))...)
		errs = append(errs, validateHook(l.PreStop, at.Child("lifecycle", "preStop"))...)
	}
	return errs
}

func (v *containerValidator) port(p *v1.ContainerPort, at *field.Path) field.ErrorList {
	errs := oneOf(at.Child("protocol"), p.Protocol, v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP)
	for _, msg := range validation.IsValidPortNum(int(p.ContainerPort)) {
		errs = append(errs, field.Invalid(at.Child("containerPort"), p.ContainerPort, msg))
	}
	if p.HostPort == 0 {
		return errs
	}
	for _, msg := range validation.IsValidPortNum(int(p.HostPort)) {
		errs = append(errs, field.Invalid(at.Child("hostPort"), p.HostPort, msg))
	}
	if v.hostNetwork && p.HostPort != p.ContainerPort {
		errs = append(errs, field.Invalid(at.Child("hostPort"), p.HostPort, "must be the containerPort, for the pod uses the host's network"))
	}
	key := v1.ContainerPort{HostIP: p.HostIP, HostPort: p.HostPort, Protocol: p.Protocol}
	if v.hostPorts[key] {
		errs = append(errs, field.Duplicate(at.Child("hostPort"), p.HostPort))
	}
	v.hostPorts[key] = true
	return errs
}

func (v *containerValidator) mounts(mounts []v1.VolumeMount, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	paths := map[string]bool{}
	for i := range mounts {
		m, at := &mounts[i], at.Index(i)
		if !v.volumes[m.Name] {
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if paths[m.MountPath] {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		paths[m.MountPath] = true
		errs = append(errs, validateSubPath(m.SubPath, at.Child("subPath"))...)
		errs = append(errs, validateSubPath(m.SubPathExpr, at.Child("subPathExpr"))...)
	}
	return errs
}

func validateSubPath(p string, at *field.Path) field.ErrorList {
	if path.IsAbs(p) {
		return field.ErrorList{field.Invalid(at, p, "must be a relative path")}
	}
	return noBacksteps(p, at)
}

func validateResources(r *v1.ResourceRequirements, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
		if q := r.Limits[name]; q.Sign() < 0 {
			errs = append(errs, field.Invalid(at.Child("limits").Key(string(name)), q.String(), "must be 0 or more"))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Requests)) {
		q, at := r.Requests[name], at.Child("requests").Key(string(name))
		limit, limited := r.Limits[name]
		switch {
		case q.Sign() < 0:
			errs = append(errs, field.Invalid(at, q.String(), "must be 0 or more"))
		case limited && q.Cmp(limit) > 0:
			errs = append(errs, field.Invalid(at, q.String(), "must not be more than the limit, "+limit.String()))
		}
	}
	return errs
}

// validateProbe checks a probe. once says that a single success must do.
func validateProbe(p *v1.Probe, at *field.Path, once bool) field.ErrorList {
	if p == nil {
		return nil
	}
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds}, {"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		if n.value < 0 {
			errs = append(errs, field.Invalid(at.Child(n.name), n.value, "must be 0 or more"))
		}
	}
	if once && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if s := p.TerminationGracePeriodSeconds; s != nil && *s < 1 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *s, "must be 1 or more"))
	}
	handlers := 0
	if p.Exec != nil {
		handlers++
	}
	if p.HTTPGet != nil {
		handlers++
		errs = append(errs, validatePort(p.HTTPGet.Port, at.Child("httpGet", "port"))...)
	}
	if p.TCPSocket != nil {
		handlers++
		errs = append(errs, validatePort(p.TCPSocket.Port, at.Child("tcpSocket", "port"))...)
	}
	if p.GRPC != nil {
		handlers++
		errs = append(errs, validatePort(intstr.FromInt32(p.GRPC.Port), at.Child("grpc", "port"))...)
	}
	if handlers != 1 {
		errs = append(errs, field.Required(at, "exactly one of exec, httpGet, tcpSocket and grpc"))
	}
	return errs
}

func validateHook(h *v1.LifecycleHandler, at *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	handlers := 0
	for _, has := range []bool{h.Exec != nil, h.HTTPGet != nil, h.TCPSocket != nil, h.Sleep != nil} {
		if has {
			handlers++
		}
	}
	if handlers != 1 {
		return field.ErrorList{field.Required(at, "exactly one of exec, httpGet, tcpSocket and sleep")}
	}
	return nil
}

func validatePort(port intstr.IntOrString, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if port.Type == intstr.Int {
		for _, msg := range validation.IsValidPortNum(port.IntValue()) {
			errs = append(errs, field.Invalid(at, port.IntValue(), msg))
		}
		return errs
	}
	for _, msg := range validation.IsValidPortName(port.StrVal) {
		errs = append(errs, field.Invalid(at, port.StrVal, msg))
	}
	return errs
}
