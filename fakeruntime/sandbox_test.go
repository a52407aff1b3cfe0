package fakeruntime

import (
	"fmt"
	"net/netip"
	"testing"

	"nodelet/agent/podruntime"
)

func TestAddresses(t *testing.T) {
	options := Options{PodCIDR: netip.MustParsePrefix("10.1.2.0/29"), HostIP: netip.MustParseAddr("10.1.2.4"), Script: always(Behavior{})}
	playWith(t, options, func(w *world) {
		run := func(name string) (id, ip string) {
			p := newPod(name)
			id = w.sandbox(p, 0)
			return id, w.observed(p).Sandboxes[0].IPs[0]
		}
		// .0 is the network, .1 its gateway, .4 the host, .7 for broadcasts.
		var first string
		for i, want := range []string{"10.1.2.2", "10.1.2.3", "10.1.2.5", "10.1.2.6"} {
			id, got := run(fmt.Sprint(i))
			if got != want {
				t.Errorf("pod %d has %s, want %s", i, got, want)
			}
			if i == 0 {
				first = id
			}
		}
		if _, err := w.RunSandbox(w.Context(), podruntime.SandboxConfig{Pod: newPod("more")}); err == nil {
			t.Error("there was an address left")
		}
		if o := w.observed(newPod("more")); !o.Empty() {
			t.Errorf("a failed sandbox left %+v", o)
		}
		w.ok(w.StopSandbox(w.Context(), first))
		if _, got := run("next"); got != "10.1.2.2" {
			t.Errorf("the address that became free was not given out: %s", got)
		}
		// The first pod's stopped sandbox is to be replaced, and cannot be.
		if _, err := w.RunSandbox(w.Context(), podruntime.SandboxConfig{Pod: newPod("0")}); err == nil {
			t.Error("there was an address left")
		}
		w.sound()
	})
}

// A new pod must not look like one that has just gone.
func TestAddressesAreUsedAgainLate(t *testing.T) {
	playWith(t, Options{Script: always(Behavior{})}, func(w *world) {
		seen := map[string]bool{}
		for i := range 100 {
			p := newPod(fmt.Sprint(i))
			id := w.sandbox(p, 0)
			ip := w.observed(p).Sandboxes[0].IPs[0]
			if seen[ip] {
				t.Fatalf("%s was given out again", ip)
			}
			seen[ip] = true
			w.ok(w.RemoveSandbox(w.Context(), id))
		}
	})
}
