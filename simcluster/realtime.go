//go:build !faketime

package simcluster

// ClockAddress is where this process's virtual clock stands in its memory, for a
// parent that looks on; 0 in real time.
func ClockAddress() uintptr { return 0 }

// seedProcess does nothing: in real time runs differ anyway.
func seedProcess(uint64) {}
