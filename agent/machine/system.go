package machine

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// info is what system the machine runs. What a small or virtual machine need
// not have, such as DMI, stays empty.
func (m *Machine) info() (v1.NodeSystemInfo, error) {
	kernel, err := m.read("proc/sys/kernel/osrelease")
	if err != nil {
		return v1.NodeSystemInfo{}, fmt.Errorf("reading the kernel's version: %w", err)
	}
	info := v1.NodeSystemInfo{
		MachineID: m.readFirst("etc/machine-id", "var/lib/dbus/machine-id"),
		// DMI, and what POWER and S/390 have in its place.
		SystemUUID: m.readFirst("sys/class/dmi/id/product_uuid", "proc/device-tree/system-id",
			"proc/device-tree/vm,uuid"),
		BootID:          m.readFirst("proc/sys/kernel/random/boot_id"),
		KernelVersion:   trim(kernel),
		OSImage:         m.osImage(),
		OperatingSystem: runtime.GOOS,
		Architecture:    runtime.GOARCH,
	}
	if text, err := m.read("proc/meminfo"); err == nil {
		if kib, err := memoryLine(text, "SwapTotal"); err == nil && kib > 0 {
			bytes := kib << 10
			info.Swap = &v1.NodeSwapStatus{Capacity: &bytes}
		}
	}
	return info, nil
}

// osImage is the name of the distribution.
// See https://www.freedesktop.org/software/systemd/man/latest/os-release.html.
func (m *Machine) osImage() string {
	for line := range strings.Lines(m.readFirst("etc/os-release", "usr/lib/os-release")) {
		value, ok := strings.CutPrefix(trim(line), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if unquoted, err := strconv.Unquote(value); err == nil {
			return unquoted
		}
		return strings.Trim(value, `'"`)
	}
	return "Unknown"
}
