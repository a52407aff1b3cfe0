package csi

import (
	"context"
	"sync"
)

// locks has one lock for each key that somebody holds or waits for. The zero value
// is ready.
type locks[K comparable] struct {
	mu   sync.Mutex
	held map[K]*lock
}

type lock struct {
	turn chan struct{}
	// users hold the lock or wait for it.
	users int
}

// take waits for the lock of a key. What it returns gives the lock back.
func (l *locks[K]) take(ctx context.Context, key K) (leave func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = map[K]*lock{}
	}
	one, ok := l.held[key]
	if !ok {
		one = &lock{turn: make(chan struct{}, 1)}
		l.held[key] = one
	}
	one.users++
	l.mu.Unlock()
	drop := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.held, key)
		}
	}
	select {
	case one.turn <- struct{}{}:
		return func() { <-one.turn; drop() }, nil
	case <-ctx.Done():
		drop()
		return nil, ctx.Err()
	}
}
