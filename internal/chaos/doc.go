// Package chaos has random lives of pods, and what is demanded of an agent that
// is given them. A life (life.go) is a pod, what its containers do in each of
// their incarnations, and how it is ended. It runs on an API server in memory
// (internal/apitest) and on the fake runtime or on Docker Engine (world.go).
//
// chaos_test.go plays lives twice on the fake runtime, once undisturbed and once
// with faults (faults.go): both must end alike. differential_test.go plays them on
// the fake runtime and on Docker: both must tell the same story (story.go).
//
// docs/testing.md says how to replay one seed.
package chaos
