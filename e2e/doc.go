// Package e2e tests the agent on the real thing: Docker Engine, the real control
// plane of `sim up` without simulated nodes, and cmd/agent's binary against both,
// each a process of its own. See hack/local-cluster for the same by hand.
package e2e
