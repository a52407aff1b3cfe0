package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// hugePages is the folder of the kernel's pools of huge pages, one folder a
// page size.
const hugePages = "sys/kernel/mm/hugepages"

// capacity is all that the machine has.
func (m *Machine) capacity() (v1.ResourceList, error) {
	cpus, err := m.cpus()
	if err != nil {
		return nil, fmt.Errorf("counting the machine's CPUs: %w", err)
	}
	memory, err := m.memory()
	if err != nil {
		return nil, fmt.Errorf("reading the machine's memory: %w", err)
	}
	disk, err := m.size(m.config.RootDir)
	if err != nil {
		return nil, fmt.Errorf("reading the size of the file system of %s: %w", m.config.RootDir, err)
	}
	capacity := v1.ResourceList{
		v1.ResourceCPU:              *resource.NewQuantity(int64(cpus), resource.DecimalSI),
		v1.ResourceMemory:           *resource.NewQuantity(memory, resource.BinarySI),
		v1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk), resource.BinarySI),
	}
	if err := m.addHugePages(capacity); err != nil {
		return nil, fmt.Errorf("reading the machine's huge pages: %w", err)
	}
	return capacity, nil
}

// cpus counts the CPUs that are online, whichever of them this process may use.
func (m *Machine) cpus() (int, error) {
	text, err := m.read("sys/devices/system/cpu/online")
	if err == nil {
		return countCPUs(trim(text))
	}
	// Without sysfs: one paragraph a CPU.
	if text, err = m.read("proc/cpuinfo"); err != nil {
		return 0, err
	}
	n := 0
	for line := range strings.Lines(text) {
		if key, _, _ := strings.Cut(line, ":"); trim(key) == "processor" {
			n++
		}
	}
	if n == 0 {
		return 0, errors.New("proc/cpuinfo names no processor")
	}
	return n, nil
}

// countCPUs counts a list of CPUs as the kernel writes it: "0-3,8".
func countCPUs(list string) (int, error) {
	n := 0
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || to < from {
			return 0, fmt.Errorf("%q is no list of CPUs", list)
		}
		n += int(to-from) + 1
	}
	return n, nil
}

// memory is the machine's memory in bytes.
func (m *Machine) memory() (int64, error) {
	text, err := m.read("proc/meminfo")
	if err != nil {
		return 0, err
	}
	kib, err := memoryLine(text, "MemTotal")
	return kib << 10, err
}

// memoryLine is a value of /proc/meminfo, in KiB.
func memoryLine(text, key string) (int64, error) {
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == key+":" && fields[2] == "kB" {
			return strconv.ParseInt(fields[1], 10, 53)
		}
	}
	return 0, fmt.Errorf("proc/meminfo has no %s in kB", key)
}

// addHugePages adds the kernel's pools of huge pages, the empty ones as well: a
// resource that a node does not name is one that it does not support.
func (m *Machine) addHugePages(capacity v1.ResourceList) error {
	pools, err := fs.ReadDir(m.config.Root, hugePages)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, pool := range pools {
		kib, ok := strings.CutPrefix(pool.Name(), "hugepages-")
		kib, isKiB := strings.CutSuffix(kib, "kB")
		size, err := strconv.ParseInt(kib, 10, 40)
		if !ok || !isKiB || err != nil {
			return fmt.Errorf("%s/%s is no folder of a page size", hugePages, pool.Name())
		}
		text, err := m.read(path.Join(hugePages, pool.Name(), "nr_hugepages"))
		if err != nil {
			return err
		}
		pages, err := strconv.ParseInt(trim(text), 10, 40)
		if err != nil {
			return fmt.Errorf("%s/%s/nr_hugepages: %q is no number of pages", hugePages, pool.Name(), trim(text))
		}
		name := v1.ResourceHugePagesPrefix + resource.NewQuantity(size<<10, resource.BinarySI).String()
		capacity[v1.ResourceName(name)] = *resource.NewQuantity(pages*size<<10, resource.BinarySI)
	}
	return nil
}

// fileSystemSize is the size in bytes of the file system that a path is on.
func fileSystemSize(path string) (uint64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, err
	}
	return uint64(s.Frsize) * s.Blocks, nil
}

// names are the resources of a list, in order.
func names(list v1.ResourceList) []v1.ResourceName { return slices.Sorted(maps.Keys(list)) }

func trim(s string) string { return strings.Trim(s, " \t\n\x00") }
