package chaos

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"nodelet/internal/apitest"
)

// errFault is what a call fails with that was chosen to.
var errFault = errors.New("chaos: this call fails")

// Faults decides what goes wrong. Every decision depends on the seed, on what is
// being done, and on how often that was done before, so that a seed brings the
// same faults again whichever goroutine comes first. A nil Faults is no fault. All
// methods may be called concurrently.
type Faults struct {
	seed uint64
	// until is when faults heal.
	until time.Time

	mu     sync.Mutex
	counts map[string]uint64
}

// NewFaults returns faults that heal after a while.
func NewFaults(seed uint64, last time.Duration) *Faults {
	return &Faults{seed: seed, until: time.Now().Add(last), counts: map[string]uint64{}}
}

// draw returns the randomness of one decision, nil once faults have healed.
func (f *Faults) draw(what string) *rand.Rand {
	if f == nil || !time.Now().Before(f.until) {
		return nil
	}
	f.mu.Lock()
	f.counts[what]++
	n := f.counts[what]
	f.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(what))
	return rand.New(rand.NewPCG(f.seed, h.Sum64()+n))
}

// happens reports whether something goes wrong this time, once in n.
func (f *Faults) happens(what string, n int) bool {
	r := f.draw(what)
	return r != nil && r.IntN(n) == 0
}

// callFault is what becomes of one call.
type callFault struct {
	// delay is how long it takes longer.
	delay time.Duration
	// before and after have it fail before or after it was done.
	before, after bool
	// dies has the agent die at that moment.
	dies bool
}

// call decides what becomes of a call.
func (f *Faults) call(what string) callFault {
	r := f.draw(what)
	if r == nil {
		return callFault{}
	}
	var c callFault
	if r.IntN(5) == 0 {
		c.delay = time.Duration(r.Int64N(int64(3 * time.Second)))
	}
	switch r.IntN(24) {
	case 0, 1:
		c.before = true
	case 2, 3:
		c.after = true
	case 4:
		c.dies, c.before = true, true
	case 5:
		c.dies, c.after = true, true
	}
	return c
}

// api says what becomes of a call of the API server. Calls about the Node are
// spared the agent's death: there are too many of them.
func (f *Faults) api(r *http.Request, die func()) apitest.Outcome {
	c := f.call(r.Method + " " + r.URL.Path)
	wait(r.Context(), c.delay)
	if c.dies && strings.Contains(r.URL.Path, "/pods/") {
		die()
	}
	switch {
	case c.after:
		return apitest.Lost
	case c.before && c.delay > 0:
		return apitest.Failed
	case c.before:
		return apitest.Refused
	}
	return apitest.OK
}

// disorder is what goes wrong with watches.
func (f *Faults) disorder() apitest.Disorder {
	if f == nil {
		return apitest.Disorder{}
	}
	return apitest.Disorder{
		Delay: func() time.Duration {
			if r := f.draw("watch delay"); r != nil && r.IntN(6) == 0 {
				return time.Duration(r.Int64N(int64(2 * time.Second)))
			}
			return 0
		},
		Twice: func() bool { return f.happens("watch twice", 4) },
		Swap:  func() bool { return f.happens("watch swap", 3) },
		Break: func() bool { return f.happens("watch break", 20) },
	}
}

// wait waits for d unless ctx ends before.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
