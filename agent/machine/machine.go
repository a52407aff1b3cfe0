// Package machine tells what the Linux machine is that the agent runs on: what
// it has (capacity.go), what pods may have of it (reserve.go), what system it
// runs (system.go) and where it is reached (address.go). Everything is read
// from /proc, /sys and /etc each time it is asked for, which costs little.
package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	v1 "k8s.io/api/core/v1"
)

// Config says which machine, and what to hold back of it.
type Config struct {
	// Root is the machine's file system; nil for this machine's own, "/".
	Root fs.FS
	// RootDir is the agent's directory. The size of its file system is the
	// node's ephemeral storage.
	RootDir string
	// NodeName is the node's address of type Hostname, and what is looked up to
	// find the machine's own address where NodeIPs gives none.
	NodeName string
	// NodeIPs are the node's addresses, the primary one first: none, one, or one
	// of each family. 0.0.0.0 and :: choose the default address of their family.
	NodeIPs []net.IP
	// ExternalCloudProvider leaves the addresses to a cloud controller manager
	// unless NodeIPs says what to begin with.
	ExternalCloudProvider bool
	// Reserved is held back from pods.
	Reserved Reserved
}

// Facts are what a machine is.
type Facts struct {
	// Capacity is all there is; Allocatable what pods may have of it.
	Capacity, Allocatable v1.ResourceList
	Info                  v1.NodeSystemInfo
	// Addresses has the InternalIPs, the primary one first, and the Hostname;
	// under an external cloud provider perhaps only the Hostname.
	Addresses []v1.NodeAddress
}

// Machine is one machine. Its methods may be called concurrently.
type Machine struct {
	config Config
	net    network
	// size is the size in bytes of the file system that a path is on.
	size func(path string) (uint64, error)
}

// Validate returns an error that names every fault, or nil. An address that is
// not on the machine is none: an interface may come up later.
func (c *Config) Validate() error {
	var faults []error
	for _, ip := range c.NodeIPs {
		if err := usable(ip); err != nil && !(ip.IsUnspecified() && len(c.NodeIPs) == 1) {
			faults = append(faults, fmt.Errorf("NodeIPs: %s: %w", ip, err))
		}
	}
	return errors.Join(faults...)
}

// New returns the machine. An error names every fault of the configuration, or
// every resource of which more is reserved than the machine has.
func New(config Config) (*Machine, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Root == nil {
		config.Root = os.DirFS("/")
	}
	m := &Machine{config: config, net: hostNetwork(), size: fileSystemSize}
	return m, m.checkReserved()
}

// checkReserved compares what is reserved with what there is.
func (m *Machine) checkReserved() error {
	capacity, err := m.capacity()
	if err != nil {
		return err
	}
	reserved := m.config.Reserved.total(capacity)
	var faults []error
	for _, name := range names(reserved) {
		has, known := capacity[name]
		if wanted := reserved[name]; known && wanted.Cmp(has) > 0 {
			faults = append(faults, fmt.Errorf("%s: %s are reserved (systemReserved, kubeReserved and evictionHard together): must be at most the machine's %s",
				name, wanted.String(), has.String()))
		}
	}
	return errors.Join(faults...)
}

// Facts returns what the machine is now. An error says what could not be read,
// or that a node IP is not on this machine.
func (m *Machine) Facts(ctx context.Context) (Facts, error) {
	capacity, err := m.capacity()
	if err != nil {
		return Facts{}, err
	}
	info, err := m.info()
	if err != nil {
		return Facts{}, err
	}
	addresses, err := m.addresses(ctx)
	if err != nil {
		return Facts{}, err
	}
	return Facts{Capacity: capacity, Allocatable: m.config.Reserved.allocatable(capacity), Info: info, Addresses: addresses}, nil
}

// read returns a file of the machine; name has no leading slash.
func (m *Machine) read(name string) (string, error) {
	data, err := fs.ReadFile(m.config.Root, name)
	return string(data), err
}

// readFirst returns the first of several files that can be read and is not
// empty, or "".
func (m *Machine) readFirst(names ...string) string {
	found := ""
	for _, name := range names {
		text, _ := m.read(name)
		found = cmp.Or(found, trim(text))
	}
	return found
}
