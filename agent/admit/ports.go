package admit

import (
	"slices"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
)

// hostPort is a port of the node that a container asks for.
type hostPort struct {
	ip       string
	protocol v1.Protocol
	port     int32
}

// anyIP is what an empty host IP means.
const anyIP = "0.0.0.0"

// hostPorts are the ports that the pod holds as long as it runs: not those of
// init containers that end before it does.
func hostPorts(p *v1.Pod) []hostPort {
	var ports []hostPort
	for l, list := range [][]v1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if l == 0 && !pod.IsSidecar(&list[i]) {
				continue
			}
			for _, port := range list[i].Ports {
				if port.HostPort <= 0 {
					continue
				}
				h := hostPort{port.HostIP, port.Protocol, port.HostPort}
				if h.ip == "" {
					h.ip = anyIP
				}
				if h.protocol == "" {
					h.protocol = v1.ProtocolTCP
				}
				ports = append(ports, h)
			}
		}
	}
	return ports
}

// portTaken reports whether a host port of p is in use by an active pod.
func portTaken(active []*v1.Pod, p *v1.Pod) bool {
	wanted := hostPorts(p)
	if len(wanted) == 0 {
		return false
	}
	for _, a := range active {
		for _, used := range hostPorts(a) {
			if slices.ContainsFunc(wanted, used.conflicts) {
				return true
			}
		}
	}
	return false
}

func (h hostPort) conflicts(o hostPort) bool {
	return h.port == o.port && h.protocol == o.protocol && (h.ip == o.ip || h.ip == anyIP || o.ip == anyIP)
}
