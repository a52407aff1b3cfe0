// Package fakeruntime is a container runtime in memory: the podruntime of
// simulated nodes. It is stateful like the real one. Sandboxes, containers and
// images exist from when they were made until they are removed, containers
// start, end and are killed, and calls take their time.
//
// What a container does is scripted: a Script gives each incarnation a
// Behavior. Everything else follows from it, the passing of time and a seed. A
// container has no goroutine and no timer: what will happen to it by itself (at
// most one thing, its end) is an entry in the Runtime's timeline, for which one
// timer is armed. Whoever looks first brings the state up to date, so nothing
// is ever seen late.
//
// Where to find what: behavior.go is the language of scripts; runtime.go the
// Runtime's state, its lock and its randomness; timeline.go the passing of
// time; sandbox.go, container.go, image.go and stream.go are the facets of
// package podruntime; probe.go what network and exec probes see; usage.go what
// containers use; fault.go what scenarios do to a machine; violation.go what an
// agent must never do.
package fakeruntime
