//go:build faketime

package simcluster

import (
	cryptorand "crypto/rand"
	"encoding/binary"
	"math"
	oldrand "math/rand"
	"math/rand/v2"
	_ "os/signal" // so that it is initialized before this package
	"sync"
	"unsafe" // also for go:linkname

	"github.com/google/uuid"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
)

// In virtual time the clock jumps when every goroutine is blocked. The loop that
// waits for signals is a goroutine parked in a system call, which counts as
// running: nothing would ever be idle. kube-scheduler starts it for its cache
// debugger. Without the loop, signals are not delivered; the parent process
// takes care of them.
//
//go:linkname watchSignalLoop os/signal.watchSignalLoop
var watchSignalLoop func()

// The runtime collects garbage at least every two minutes: thirty times in an
// hour that takes some seconds.
//
//go:linkname forceGCPeriod runtime.forcegcperiod
var forceGCPeriod int64

//go:linkname faketime runtime.faketime
var faketime int64

func init() {
	watchSignalLoop = nil
	forceGCPeriod = math.MaxInt64
}

// ClockAddress is where this process's virtual clock stands in its memory, for a
// parent that looks on; 0 in real time.
func ClockAddress() uintptr { return uintptr(unsafe.Pointer(&faketime)) }

// seedProcess gives upstream's random numbers a seed: the suffixes of names, UIDs,
// the scheduler's choice among equal nodes, jitter. Keys stay random. For the old
// package's seed to be heeded GODEBUG must have randseednop=0.
func seedProcess(seed uint64) {
	utilrand.Seed(int64(seed))
	oldrand.Seed(int64(seed)) //nolint:staticcheck // upstream uses it
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	reader := &lockedReader{source: rand.NewChaCha8(key)}
	uuid.SetRand(reader)
	// etcd takes the time of its election from here.
	cryptorand.Reader = reader
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
