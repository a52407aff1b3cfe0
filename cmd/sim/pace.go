package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// parseSpeed reads --speed: how many seconds of virtual time a second of the wall
// clock takes at most; 0 for as fast as can be.
func parseSpeed(text string) (float64, error) {
	switch text {
	case "", "max":
		return 0, nil
	case "real":
		return 1, nil
	}
	speed, err := strconv.ParseFloat(text, 64)
	if err != nil || !(speed >= 0.01 && speed <= 1e6) {
		return 0, fmt.Errorf("--speed %s: must be real, max, or a number from 0.01 to 1000000", text)
	}
	return speed, nil
}

// heldEvery is for how long, by the wall clock, the clock is held at a time. A
// request from outside the process is only seen between two holds.
const heldEvery = 10 * time.Millisecond

// catchUp is how far a paced run makes good for when it was slower.
const catchUp = time.Second

// pace keeps virtual time from running faster than speed says, until ctx ends. A
// thread in a system call keeps the clock from jumping.
func pace(ctx context.Context, speed float64) {
	step := max(time.Duration(float64(heldEvery)*speed), time.Microsecond)
	virtual, wall := time.Now(), wallClock()
	for ctx.Err() == nil {
		time.Sleep(step)
		ahead := time.Duration(float64(time.Since(virtual))/speed) - (wallClock() - wall)
		if ahead > 0 {
			holdClock(ahead)
		} else if ahead < -catchUp {
			virtual, wall = time.Now(), wallClock()
		}
	}
}

// wallClock is the system's clock, not the virtual one.
func wallClock() time.Duration {
	const monotonic = 1
	var t syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, monotonic, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano())
}

// holdClock lets wall time pass, but no virtual time. A signal may end it early.
func holdClock(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_, _, _ = syscall.Syscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// waitForEnter returns when a line, or the end, of standard input is there. In
// virtual time the clock stands meanwhile, but for a nanosecond at a time: when it
// jumps, the runtime looks for requests from outside.
func waitForEnter(ctx context.Context) error {
	for ctx.Err() == nil {
		if !inputWithin(heldEvery) {
			time.Sleep(time.Nanosecond)
			continue
		}
		var b [1]byte
		if n, _ := os.Stdin.Read(b[:]); n == 0 || b[0] == '\n' {
			return nil
		}
	}
	return context.Cause(ctx)
}

// inputWithin waits for standard input by the wall clock.
func inputWithin(d time.Duration) bool {
	const readable = 1
	p := struct {
		fd              int32
		events, revents int16
	}{events: readable}
	n, _, errno := syscall.Syscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(d.Milliseconds()))
	return errno == 0 && n > 0
}
