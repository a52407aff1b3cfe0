package scenarios

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// settle is how long changes are gathered before an expectation is looked at
// again: a roll-out makes thousands. A look that takes long is taken rarely.
const (
	settle     = 50 * time.Millisecond
	settleCost = 4
	// filesEvery is how often files are looked at.
	filesEvery = 500 * time.Millisecond
)

// Seen is what an expectation saw at a time.
type Seen struct {
	// After is how long after the expectation's beginning.
	After time.Duration
	Saw   string
}

// seenJSON is Seen in JSON: the time is in seconds.
type seenJSON struct {
	Seconds float64 `json:"seconds"`
	Saw     string  `json:"saw"`
}

// MarshalJSON writes the time in seconds.
func (s Seen) MarshalJSON() ([]byte, error) { return json.Marshal(seenJSON{s.After.Seconds(), s.Saw}) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Seen) UnmarshalJSON(data []byte) error {
	var read seenJSON
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*s = Seen{time.Duration(math.Round(read.Seconds * float64(time.Second))), read.Saw}
	return nil
}

// ExpectationError says that an expectation was not met.
type ExpectationError struct {
	Want string
	// Within is the time that it had, and For how long it was to stay so.
	Within, For time.Duration
	// Held says that it was met for a while.
	Held bool
	// Cut is why it did not even have its time; nil if it had.
	Cut error
	// Seen is what was seen over time, in order: a choice from so many changes.
	Seen    []Seen
	Changes int
	// Events are those of objects that the expectation is about.
	Events []string
}

// Error is one line; the rest is for reports.
func (e *ExpectationError) Error() string {
	last := "nothing"
	if len(e.Seen) > 0 {
		last = e.Seen[len(e.Seen)-1].Saw
	}
	why := fmt.Sprintf("not within %v", e.Within)
	switch {
	case e.Cut != nil:
		why = e.Cut.Error()
	case e.Held:
		why = fmt.Sprintf("not for %v", max(e.For, 0))
	}
	return fmt.Sprintf("%s: expected %s, last saw %s", why, e.Want, last)
}

// Unwrap returns why the expectation did not have its time.
func (e *ExpectationError) Unwrap() error { return e.Cut }

func isExpectation(err error) bool {
	var e *ExpectationError
	return errors.As(err, &e)
}

// watching is an expectation that is being waited for.
type watching struct {
	e     *Expect
	began time.Time
	// since is when it was met, zero while it is not; held says that it was
	// met at any time.
	since time.Time
	held  bool
	seen  []Seen
}

// expect waits until an expectation is met and has stayed so. The error is an
// *ExpectationError, or says why it cannot be looked at.
func (r *Runner) expect(ctx context.Context, e *Expect) error {
	w := &watching{e: e, began: time.Now()}
	deadline := w.began.Add(e.Within.Duration)
	for {
		changed := r.view.next()
		began := time.Now()
		now, err := r.look(ctx, e)
		if err != nil {
			return err
		}
		w.note(now)
		until := deadline
		switch {
		case now.met && time.Since(w.since) >= e.For.Duration:
			return nil
		case now.met:
			until = w.since.Add(e.For.Duration)
		case !time.Now().Before(deadline):
			return r.unmet(ctx, w, nil)
		}
		if e.File != nil {
			// Nobody tells of files.
			until = earlier(until, time.Now().Add(filesEvery))
		}
		if err := waitFor(ctx, changed, until, max(settle, settleCost*time.Since(began))); err != nil {
			return r.unmet(ctx, w, err)
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// note keeps what was seen, if it is something new.
func (w *watching) note(now outcome) {
	if n := len(w.seen); n == 0 || w.seen[n-1].Saw != now.saw {
		w.seen = append(w.seen, Seen{time.Since(w.began), now.saw})
	}
	switch {
	case !now.met:
		w.since = time.Time{}
	case w.since.IsZero():
		w.since, w.held = time.Now(), true
	}
}

// eventsWithin bounds the gathering of events for a verdict.
const eventsWithin = 5 * time.Second

// unmet is the error of an expectation that was given up.
func (r *Runner) unmet(ctx context.Context, w *watching, cut error) error {
	if cut != nil && !errors.Is(cut, errTimeout) {
		// Whoever interrupts does not want to hear more.
		return cut
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventsWithin)
	defer cancel()
	return &ExpectationError{Want: w.e.String(), Within: w.e.Within.Duration, For: w.e.For.Duration, Held: w.held,
		Cut: cut, Seen: shorten(w.seen), Changes: len(w.seen), Events: r.eventsOf(ctx, w.e)}
}

// waitFor returns some time after a change, or at a time.
func waitFor(ctx context.Context, changed <-chan struct{}, until time.Time, after time.Duration) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	case <-changed:
	}
	return sleep(ctx, min(after, max(time.Until(until), 0)))
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// A verdict shows so many of the newest changes, and so many of those before.
const (
	newestSeen = 6
	olderSeen  = 10
)

// shorten keeps the newest of what was seen, and of what came before an even
// choice over the time.
func shorten(seen []Seen) []Seen {
	if len(seen) <= newestSeen+olderSeen {
		return seen
	}
	older, newest := seen[:len(seen)-newestSeen], seen[len(seen)-newestSeen:]
	slot := older[len(older)-1].After/olderSeen + 1
	var kept []Seen
	for i, s := range older {
		if i == 0 || s.After/slot != older[i-1].After/slot {
			kept = append(kept, s)
		}
	}
	return append(kept, newest...)
}
