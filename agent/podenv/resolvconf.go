package podenv

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// ResolvConf is a resolver's configuration, as in resolv.conf(5). Options are
// as they are written there: ndots:5.
type ResolvConf struct {
	Nameservers, Searches, Options []string
	// none: the node has no resolv.conf; Nameservers are then loopback addresses.
	none bool
}

// maxResolvConf is how much of a resolv.conf is read, in bytes.
const maxResolvConf = 10 << 20

// NoResolvConf is the node's configuration when it is told to have none
// (resolvConf: ""): pods that use the node's look up at loopback addresses of
// the families of nodeIPs.
func NoResolvConf(nodeIPs []string) ResolvConf {
	c := ResolvConf{none: true}
	for _, ip := range nodeIPs {
		loopback := "127.0.0.1"
		if isIPv6(ip) {
			loopback = "::1"
		}
		c.Nameservers = append(c.Nameservers, loopback)
	}
	if len(nodeIPs) == 0 {
		c.Nameservers = []string{"127.0.0.1"}
	}
	return c
}

// ParseResolvConf reads a resolv.conf as the kubelet does: name servers add up,
// the last search line counts, and so does the last option of a name; other
// lines are passed over. A search domain loses its dot at the end. An error is
// the reader's, or names a name server line without an address.
func ParseResolvConf(r io.Reader) (ResolvConf, error) {
	content, err := io.ReadAll(io.LimitReader(r, maxResolvConf+1))
	if err != nil {
		return ResolvConf{}, fmt.Errorf("reading resolv.conf: %w", err)
	}
	if len(content) > maxResolvConf {
		return ResolvConf{}, fmt.Errorf("resolv.conf is longer than %d bytes", maxResolvConf)
	}
	var c ResolvConf
	var faults []error
	for line := range strings.SplitSeq(string(content), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		keyword, values := fields[0], fields[1:]
		switch keyword {
		case "nameserver":
			if len(values) == 0 {
				faults = append(faults, errors.New("nameserver list is empty"))
				continue
			}
			c.Nameservers = append(c.Nameservers, values[0])
		case "search":
			c.Searches = nil
			for _, domain := range values {
				if domain != "." {
					c.Searches = append(c.Searches, strings.TrimSuffix(domain, "."))
				}
			}
		case "options":
			for _, o := range values {
				c.Options = setOption(c.Options, o)
			}
		}
	}
	if len(faults) > 0 {
		return ResolvConf{}, errors.Join(faults...)
	}
	return c, nil
}

// setOption returns options with one of them set, in the place of the former
// one of its name.
func setOption(options []string, option string) []string {
	name, _, _ := strings.Cut(option, ":")
	i := slices.IndexFunc(options, func(o string) bool {
		other, _, _ := strings.Cut(o, ":")
		return other == name
	})
	if i < 0 {
		return append(options, option)
	}
	options[i] = option
	return options
}
