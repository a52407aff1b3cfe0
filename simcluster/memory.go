//go:build faketime

package simcluster

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// keepMemoryAhead raises the process's memory limit, at which garbage is collected,
// when half of it is really needed: the runtime's own brake, which keeps it from
// collecting all the time near the limit, goes by a clock that stands meanwhile.
func keepMemoryAhead() {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	type collected struct{ _ [16]byte }
	var again func(*collected)
	again = func(*collected) {
		metrics.Read(samples)
		need := int64(samples[0].Value.Uint64() + samples[1].Value.Uint64())
		if limit := debug.SetMemoryLimit(-1); limit < 2*need {
			debug.SetMemoryLimit(3 * need)
		}
		// The next one is found to be garbage at the next collection.
		runtime.SetFinalizer(&collected{}, again)
	}
	runtime.SetFinalizer(&collected{}, again)
}
