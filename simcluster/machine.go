package simcluster

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"runtime"
	"sync"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/node"
)

// machine is a node.Machine of given capacity. A restart of it shows in its boot
// ID.
type machine struct {
	facts node.Facts

	mu    sync.Mutex
	boots uint64
}

func newMachine(name string, address netip.Addr, capacity v1.ResourceList) *machine {
	return &machine{facts: node.Facts{
		Capacity: capacity,
		Addresses: []v1.NodeAddress{
			{Type: v1.NodeInternalIP, Address: address.String()},
			{Type: v1.NodeHostName, Address: name},
		},
		Info: v1.NodeSystemInfo{
			MachineID:       machineID(name, 0),
			SystemUUID:      machineID(name, 1),
			KernelVersion:   "6.12.0-simulated",
			OSImage:         "Nodelet simulated machine",
			OperatingSystem: "linux",
			Architecture:    runtime.GOARCH,
		},
	}}
}

// Facts implements node.Machine.
func (m *machine) Facts(context.Context) (node.Facts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	facts := m.facts
	facts.Info.BootID = machineID(facts.Info.MachineID, 2+m.boots)
	return facts, nil
}

// reboot gives the machine a new boot ID.
func (m *machine) reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots++
}

// machineID makes the number-th UUID of a machine.
func machineID(name string, number uint64) string {
	h := fnv.New128a()
	fmt.Fprintf(h, "%s/%d", name, number)
	s := h.Sum(nil)
	return fmt.Sprintf("%x-%x-%x-%x-%x", s[:4], s[4:6], s[6:8], s[8:10], s[10:])
}
