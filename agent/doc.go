// Package agent is a Kubernetes node: given a pod runtime and an API server it
// does what the kubelet does. The production binary and the simulator run the
// same agents; they differ only in Deps.
//
// # A tour
//
// A pod that the scheduler has bound to this node arrives through kubeapi's
// watch at source, which hands it to desired. There it is admitted (admit) and
// marked dirty. The worker takes what is desired and what was observed, has
// plan decide what to do, and starts the actions through podruntime. What they
// change in the runtime is seen by observe, which marks the pod dirty again,
// until there is nothing left to do. Each look also yields the pod's status
// (podstatus), which publish writes to the API server when it has changed.
// Static pods come from source, too; mirror shows them in the API server.
// Beside that, node keeps the Node object and its lease, and probe asks the
// containers how they are.
//
//	source -> desired -> worker -> podruntime -> observe -> publish -> API server
//	                        ^------------------------'  (marks the pod dirty)
//	API server -> source    (the only outer loop)
//
// New in agent.go wires the parts together and is the only place that knows
// them all. Config and its defaults are in config.go.
package agent
