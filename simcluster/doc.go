// Package simcluster runs a whole Kubernetes cluster inside this process: an
// embedded etcd, the unmodified kube-apiserver, kube-controller-manager and
// kube-scheduler, and any number of real agents on the fake runtime.
//
// It is the only package that imports k8s.io/kubernetes.
//
// # Where to put a change
//
//	cluster.go            Start, Stop and what a Cluster is
//	options.go            what can be asked of a cluster, and its validation
//	datadir.go            where the data lives: memory or a directory
//	certificates.go       the certificate authorities and who they vouch for
//	network.go            the in-memory network and the loopback port for people
//	identity.go           who a request over the in-memory network comes from
//	authenticate.go       how both sides say so
//	etcd.go, apiserver.go, loopback.go, controllermanager.go, scheduler.go
//	                      one part of the control plane each
//	parts.go              starting, supervising and stopping the parts
//	upstream.go           what upstream keeps process-wide: logging, names
//	kubeconfig.go         the file that people give to kubectl
//	nodes.go, machine.go  the simulated machines and the agents on them
//	faults.go             killing nodes and bringing them back
//	link.go               a node's connection to the API server, which can be cut
//	direct.go             the API server as something to call, in virtual time
//	etcdclient.go         etcd as something to call, in virtual time
//	hub.go                one set of watches for all agents (API load "shared")
//
// # Network
//
// Nothing inside the process uses TCP. The API server listens on a pipe in
// memory, etcd on a unix socket in the data directory; a loopback port is opened
// only for people, when Options.Listen asks for one. This is what lets the
// faketime build jump its clock: a TCP segment may be in the kernel while every
// goroutine is blocked, a byte in a pipe may not. In that build there is not even a
// pipe: the API server's handler and etcd's functions are called (direct.go,
// etcdclient.go).
//
// Everybody in the process talks to the API server over a few shared HTTP/2
// connections, which are authenticated as its front proxy; who a request is from
// is said in X-Remote-User and X-Remote-Group headers. So an agent is
// system:node:<name> in the group system:nodes, under the Node authorizer and
// the NodeRestriction admission plugin, without a certificate for each.
//
// # What a stopped cluster leaves behind
//
// No port, no file (but those in Options.Dir), and no goroutine of this module.
// Upstream leaves some goroutines behind (workqueue metrics, the API server's
// certificate and quota controllers among them); they are idle.
package simcluster
