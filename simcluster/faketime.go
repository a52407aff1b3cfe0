//go:build faketime

package simcluster

import (
	_ "crypto/rand" // has what setTestingReader links to
	"encoding/binary"
	"io"
	"math"
	oldrand "math/rand"
	"math/rand/v2"
	"os"
	_ "os/signal" // so that it is initialized before this package
	"sync"
	"unsafe" // also for go:linkname

	utilrand "k8s.io/apimachinery/pkg/util/rand"
)

// Who asks to be told of signals, as kube-scheduler's cache debugger does, makes
// os/signal start two goroutines. One waits for signals parked in a system call, which
// counts as running: nothing would ever be idle. The other is bound to a thread, whose
// coming and going differs from run to run. They are started for the first who wants a
// signal, so it is made to look as if somebody did already. Signals are not delivered;
// the parent process takes care of them.
//
//go:linkname signalHandlers os/signal.handlers
var signalHandlers struct {
	sync.Mutex
	m        map[chan<- os.Signal]*struct{ mask [3]uint32 }
	ref      [65]int64
	stopping []struct{}
}

// The runtime collects garbage at least every two minutes: thirty times in an
// hour that takes some seconds.
//
//go:linkname forceGCPeriod runtime.forcegcperiod
var forceGCPeriod int64

// Goroutines begin with a stack that is enough for the long chain of an API server's
// handlers: each request takes three goroutines, whose stacks would grow, and be
// copied, four times.
//
//go:linkname startingStackSize runtime.startingStackSize
var startingStackSize uint32

//go:linkname faketime runtime.faketime
var faketime int64

func init() {
	for i := range signalHandlers.ref {
		signalHandlers.ref[i] = 1
	}
	forceGCPeriod = math.MaxInt64
	startingStackSize = 32 << 10
	keepMemoryAhead()
}

// ClockAddress is where this process's virtual clock stands in its memory, for a
// parent that looks on; 0 in real time.
func ClockAddress() uintptr { return uintptr(unsafe.Pointer(&faketime)) }

// setTestingReader replaces the random numbers of all of crypto, which is also where
// UIDs and etcd's election time come from. It is there for testing/cryptotest.
//
//go:linkname setTestingReader crypto/internal/rand.SetTestingReader
func setTestingReader(io.Reader)

// seedProcess gives upstream's random numbers a seed: the suffixes of names, UIDs,
// keys, the scheduler's choice among equal nodes, jitter. For the old package's seed
// to be heeded GODEBUG must have randseednop=0.
func seedProcess(seed uint64) {
	utilrand.Seed(int64(seed))
	oldrand.Seed(int64(seed)) //nolint:staticcheck // upstream uses it
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	setTestingReader(&lockedReader{source: rand.NewChaCha8(key)})
}

// lockedReader is a source of random bytes for everybody.
type lockedReader struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

func (r *lockedReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.Read(p)
}
