package pod

import v1 "k8s.io/api/core/v1"

// Annotations of static pods and of their mirror pods.
const (
	// AnnotationSource is a pod's Source.
	AnnotationSource = "kubernetes.io/config.source"
	// AnnotationHash changes with a static pod's manifest. It is the pod's UID.
	AnnotationHash = "kubernetes.io/config.hash"
	// AnnotationSeen is when the manifest was first seen, in RFC 3339.
	AnnotationSeen = "kubernetes.io/config.seen"
	// AnnotationMirror is, on a mirror pod, the hash of its static pod.
	AnnotationMirror = v1.MirrorPodAnnotationKey
)

// IsStatic reports whether p is from a manifest, and not a mirror of one.
func IsStatic(p *v1.Pod) bool {
	source, ok := p.Annotations[AnnotationSource]
	return ok && source != string(SourceAPI) && !IsMirror(p)
}

// systemCriticalPriority is the least priority of a critical pod.
const systemCriticalPriority = 2_000_000_000

// IsCritical reports whether p is one that others make room for: a static pod, or
// one of a system priority.
func IsCritical(p *v1.Pod) bool {
	return IsStatic(p) || IsMirror(p) || p.Spec.Priority != nil && *p.Spec.Priority >= systemCriticalPriority
}

// IsMirror reports whether p only shows a static pod of some node in the API
// server.
func IsMirror(p *v1.Pod) bool {
	_, ok := p.Annotations[AnnotationMirror]
	return ok
}

// Mirrors reports whether mirror is the mirror pod of the static pod.
func Mirrors(mirror, static *v1.Pod) bool {
	return mirror.Namespace == static.Namespace && mirror.Name == static.Name &&
		mirror.Annotations[AnnotationMirror] == static.Annotations[AnnotationHash]
}
