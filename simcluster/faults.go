package simcluster

import (
	"fmt"
)

// Fault is what can go wrong with a node.
type Fault string

const (
	// FaultPower: the machine is switched off; the agent and all containers
	// die without a word.
	FaultPower Fault = "power"
	// FaultAgent: the agent dies without a word; its containers go on.
	FaultAgent Fault = "agent"
	// FaultNetwork: the node is cut off from the API server, in both
	// directions; the agent and its containers go on.
	FaultNetwork Fault = "network"
)

// KillNode does something to a node. It is an error if something is wrong with
// it already. It returns when what is to die is dead.
func (c *Cluster) KillNode(name string, how Fault) error {
	n, err := c.fleet.node(name)
	if err != nil {
		return fmt.Errorf("killing node %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault != "" {
		return fmt.Errorf("killing node %s: it is down already (%s)", name, n.fault)
	}
	switch how {
	case FaultPower:
		// In this order nothing of the end can be told to the API server.
		n.link.Cut()
		n.runtime.PowerOff()
		n.stopAgent()
	case FaultAgent:
		n.link.Cut()
		n.stopAgent()
	case FaultNetwork:
		n.link.Cut()
	default:
		return fmt.Errorf("killing node %s: unknown fault %q: must be %s, %s or %s",
			name, how, FaultPower, FaultAgent, FaultNetwork)
	}
	n.fault = how
	return nil
}

// RestoreNode undoes what KillNode did: power and network come back, and a new
// agent is started where the old one died. It is an error if nothing is wrong
// with the node.
func (c *Cluster) RestoreNode(name string) error {
	n, err := c.fleet.node(name)
	if err != nil {
		return fmt.Errorf("restoring node %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault == "" {
		return fmt.Errorf("restoring node %s: it is not down", name)
	}
	if n.fault == FaultPower {
		n.machine.reboot()
		n.runtime.PowerOn()
	}
	n.link.Restore()
	if n.fault != FaultNetwork {
		if err := c.fleet.startAgent(n); err != nil {
			return fmt.Errorf("restoring node %s: %w", name, err)
		}
	}
	n.fault = ""
	return nil
}
