// Package pod holds the values that the parts of the agent hand to each other:
// what is desired of a pod, what was observed of it, and what its probes said.
//
// It is layer 0: it imports only Kubernetes API types, does no I/O and starts
// no goroutine. A value that has been handed over is never changed again; its
// one writer makes a new value instead, so readers need no lock.
package pod

import (
	"time"

	v1 "k8s.io/api/core/v1"
)

// UID identifies a pod as this node works on it. For a pod from the API server
// it is metadata.uid; for a static pod it is the UID made from its manifest.
type UID string

// MirrorUID is the UID that the API server gave to a static pod's mirror pod.
// It is never used to find containers.
type MirrorUID string

// Source says where a desired pod came from. The values are those of the
// annotation kubernetes.io/config.source.
type Source string

// The sources of desired pods.
const (
	SourceAPI  Source = "api"
	SourceFile Source = "file"
	SourceHTTP Source = "http"
)

// Desired is what the sources want of one pod. Only package desired makes it.
type Desired struct {
	// Pod is the newest object from the source, with the resources that the node
	// grants its containers. It must not be changed.
	Pod *v1.Pod
	// Asked is that object as it came.
	Asked *v1.Pod
	// Resize is why the containers do not have the resources that the source asks
	// for; nil if they do. Granted is the pod's generation in which a resize was
	// granted last; 0 before.
	Resize  *Rejection
	Granted int64
	// Source is where Pod came from.
	Source Source
	// Mirror is the UID of the mirror pod; empty for a pod from the API server
	// and for a static pod whose mirror does not exist (yet).
	Mirror MirrorUID
	// Removed is when the source stopped listing the pod: a forced deletion,
	// or a manifest taken away. Zero while the source still lists it.
	Removed time.Time
	// Rejection is why this node will not run the pod; nil if it was admitted.
	Rejection *Rejection
	// Preempted says that the pod is to end, to make room for a critical one.
	Preempted bool
	// Evicted is why the pod is to end for what it uses, for its owner; "" if it may
	// stay.
	Evicted string
	// FirstSeen is when this agent first heard of the pod.
	FirstSeen time.Time
}

// UID is the identity under which the pod's containers run.
func (d *Desired) UID() UID { return UID(d.Pod.UID) }

// Rejection is the node's refusal to run a pod, in the words of the kubelet:
// the pod's phase becomes Failed with this reason and message.
type Rejection struct {
	Reason  string
	Message string
	// Preempt are pods of less importance: if they end, there is room after all.
	Preempt []UID
}

// Phase is where a pod stands in its life on this node. It only ever goes
// forward.
type Phase int

// The phases of a pod's life on the node.
const (
	// Syncing: the pod is to run; containers are started and restarted.
	Syncing Phase = iota
	// Terminating: nothing is started any more; what runs is being stopped.
	Terminating
	// Terminated: nothing of the pod runs any more on this node.
	Terminated
)

// String is the phase's name, for logs.
func (p Phase) String() string {
	switch p {
	case Syncing:
		return "Syncing"
	case Terminating:
		return "Terminating"
	case Terminated:
		return "Terminated"
	}
	return "Unknown"
}

// FullName is namespace/name, for logs and error messages.
func FullName(p *v1.Pod) string { return p.Namespace + "/" + p.Name }

// IsTerminal reports whether a pod phase is final: Succeeded or Failed.
func IsTerminal(phase v1.PodPhase) bool {
	return phase == v1.PodSucceeded || phase == v1.PodFailed
}
