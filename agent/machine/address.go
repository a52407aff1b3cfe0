package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// lookupTimeout bounds the look-up of the node's name: without an answer the
// default route's address serves as well.
const lookupTimeout = 5 * time.Second

// network is what addresses are found with.
type network struct {
	// addrs are the addresses of all interfaces.
	addrs func() ([]net.Addr, error)
	// lookup asks the resolver for the addresses of a name.
	lookup func(ctx context.Context, name string) ([]net.IP, error)
	// defaultIP is the address on the default route's interface, of the family
	// of its argument; IPv4 is preferred for nil.
	defaultIP func(family net.IP) (net.IP, error)
}

func hostNetwork() network {
	return network{
		addrs: net.InterfaceAddrs,
		lookup: func(ctx context.Context, name string) ([]net.IP, error) {
			return net.DefaultResolver.LookupIP(ctx, "ip", name)
		},
		defaultIP: utilnet.ResolveBindAddress,
	}
}

// addresses are where the node is reached, chosen as the kubelet chooses.
func (m *Machine) addresses(ctx context.Context) ([]v1.NodeAddress, error) {
	ips := m.config.NodeIPs
	hostname := v1.NodeAddress{Type: v1.NodeHostName, Address: m.config.NodeName}
	if len(ips) == 0 && m.config.ExternalCloudProvider {
		return []v1.NodeAddress{hostname}, nil
	}
	var family net.IP
	if len(ips) == 1 && ips[0].IsUnspecified() {
		family, ips = ips[0], nil
	}
	if len(ips) == 0 {
		ip, err := m.findIP(ctx, family)
		if err != nil {
			return nil, fmt.Errorf("finding the address of node %s: %w; give it one with --node-ip", m.config.NodeName, err)
		}
		ips = []net.IP{ip}
	} else if err := m.onMachine(ips...); err != nil {
		return nil, err
	}
	var addresses []v1.NodeAddress
	for _, ip := range ips {
		addresses = append(addresses, v1.NodeAddress{Type: v1.NodeInternalIP, Address: ip.String()})
	}
	return append(addresses, hostname), nil
}

// findIP finds the machine's address: by its name, else by its default route.
// family is nil, 0.0.0.0 or ::, and only a preference, of IPv4 where nil.
func (m *Machine) findIP(ctx context.Context, family net.IP) (net.IP, error) {
	if ip := net.ParseIP(m.config.NodeName); ip != nil {
		return ip, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	// A name that is not known is no error: many machines have none.
	known, _ := m.net.lookup(ctx, m.config.NodeName)
	known = slices.DeleteFunc(known, func(ip net.IP) bool { return usable(ip) != nil || m.onMachine(ip) != nil })
	isIPv4 := func(ip net.IP) bool { return ip.To4() != nil }
	preferred := func(ip net.IP) bool { return isIPv4(ip) == (family == nil || isIPv4(family)) }
	if i := slices.IndexFunc(known, preferred); i >= 0 {
		return known[i], nil
	}
	if len(known) > 0 {
		return known[0], nil
	}
	return m.net.defaultIP(family)
}

// usable says why an address cannot be a node's, or nil.
func usable(ip net.IP) error {
	switch {
	case ip.To16() == nil:
		return errors.New("must be an IP address")
	case ip.IsLoopback():
		return errors.New("must not be a loopback address")
	case ip.IsMulticast():
		return errors.New("must not be a multicast address")
	case ip.IsLinkLocalUnicast():
		return errors.New("must not be a link-local address")
	case ip.IsUnspecified():
		return errors.New("must not be all zeros")
	}
	return nil
}

// onMachine returns an error unless all addresses are of this machine.
func (m *Machine) onMachine(ips ...net.IP) error {
	addrs, err := m.net.addrs()
	if err != nil {
		return fmt.Errorf("listing the machine's addresses: %w", err)
	}
	for _, ip := range ips {
		has := slices.ContainsFunc(addrs, func(a net.Addr) bool {
			n, ok := a.(*net.IPNet)
			return ok && n.IP.Equal(ip)
		})
		if !has {
			return fmt.Errorf("node IP %s: must be on one of the machine's network interfaces", ip)
		}
	}
	return nil
}
