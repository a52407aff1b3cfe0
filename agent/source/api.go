// Package source brings pods from where they are declared to the desired set:
// the API server (api.go) and, for static pods, files and URLs.
package source

import (
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// Sink takes what a source lists. desired.Set is one.
type Sink interface {
	Put(source pod.Source, p *v1.Pod)
	Delete(source pod.Source, last *v1.Pod)
	Synced(source pod.Source)
}

// Mirrors takes the mirror pods of this node's static pods, as the API server
// has them. mirror.Keeper is one.
type Mirrors interface {
	Set(mirror *v1.Pod)
	Deleted(mirror *v1.Pod)
	// Synced says that every mirror pod there was at the start has been set.
	Synced()
}

// API is the source of the pods that the scheduler bound to this node. It is
// driven by a watch, through the methods below, which the watch calls one at a
// time.
type API struct {
	sink    Sink
	mirrors Mirrors
	seen    func(*v1.Pod)
}

// NewAPI returns a source that hands pods to sink, and mirror pods to mirrors.
// seen is called with every object as the API server has it: before its sink
// is, and after mirrors.
func NewAPI(sink Sink, mirrors Mirrors, seen func(*v1.Pod)) *API {
	return &API{sink: sink, mirrors: mirrors, seen: seen}
}

// PodSet takes a pod that is new or has changed.
func (a *API) PodSet(p *v1.Pod) {
	if pod.IsMirror(p) {
		a.mirrors.Set(p)
		a.seen(p)
		return
	}
	a.seen(p)
	a.sink.Put(pod.SourceAPI, p)
}

// PodDeleted takes the last state of a pod that is no longer listed.
func (a *API) PodDeleted(p *v1.Pod) {
	if pod.IsMirror(p) {
		a.mirrors.Deleted(p)
		return
	}
	a.sink.Delete(pod.SourceAPI, p)
}

// PodsSynced says that every pod there was at the start has been set.
func (a *API) PodsSynced() {
	a.mirrors.Synced()
	a.sink.Synced(pod.SourceAPI)
}
