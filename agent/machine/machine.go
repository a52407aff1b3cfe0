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

// New returns the machine. An error names every fault of the configuration that
// the machine shows, such as more reserved than there is.
func New(config Config) (*Machine, error) {
	if config.Root == nil {
		config.Root = os.DirFS("/")
	}
	m := &Machine{config: config, net: hostNetwork(), size: fileSystemSize}
	return m, m.check()
}

// check finds the faults of the configuration. An address that is not on the
// machine is none: an interface may come up later.
func (m *Machine) check() error {
	var faults []error
	for _, ip := range m.config.NodeIPs {
		if err := usable(ip); err != nil && !(ip.IsUnspecified() && len(m.config.NodeIPs) == 1) {
			faults = append(faults, fmt.Errorf("node IP %s: %w", ip, err))
		}
	}
	capacity, err := m.capacity()
	if err != nil {
		return errors.Join(append(faults, err)...)
	}
	reserved := m.config.Reserved.total(capacity)
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
