// Package apitest is an API server for tests, in memory and without a socket, so
// that an agent can be run on it in a testing/synctest bubble or beside a real
// container runtime. It knows as much as one node needs: pods and their statuses,
// the Node, its lease, and events, which it counts. What a status may not do it
// notes (rules.go); what goes wrong on the way is the test's to say.
package apitest
