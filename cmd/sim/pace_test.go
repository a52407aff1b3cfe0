package main

import (
	"testing"
	"time"
)

func TestParseSpeed(t *testing.T) {
	for _, c := range []struct {
		text string
		want float64
		ok   bool
	}{
		{"", 0, true}, {"max", 0, true}, {"real", 1, true}, {"60", 60, true}, {"0.5", 0.5, true},
		{"0", 0, false}, {"-1", 0, false}, {"fast", 0, false}, {"NaN", 0, false},
	} {
		t.Run(c.text, func(t *testing.T) {
			got, err := parseSpeed(c.text)
			if got != c.want || (err == nil) != c.ok {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

// TestHoldClock: the wall clock moves while the clock is held.
func TestHoldClock(t *testing.T) {
	before := wallClock()
	holdClock(20 * time.Millisecond)
	if held := wallClock() - before; held < 10*time.Millisecond || held > 5*time.Second {
		t.Errorf("held for %v", held)
	}
}
