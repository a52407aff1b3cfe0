package simcluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// part is a running component of the control plane.
type part struct {
	name   string
	cancel context.CancelFunc
	// done is closed when the part has ended; err is why, valid then.
	done chan struct{}
	err  error
}

// errEnded is the error of a part that ended without saying why.
var errEnded = errors.New("ended without an error")

// startPart runs a part until it is stopped. If it ends before, onEnd is called
// with the reason.
func startPart(name string, run func(context.Context) error, onEnd func(error)) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan struct{}), err: errEnded}
	go func() {
		// Deferred, because upstream may end the goroutine (see klog.OsExit).
		defer func() {
			early := ctx.Err() == nil
			cancel()
			close(p.done)
			if early {
				onEnd(fmt.Errorf("%s ended by itself: %w", name, p.err))
			}
		}()
		if err := run(ctx); err != nil {
			p.err = err
		}
	}()
	return p
}

// stop ends the part and waits until it has ended, or until ctx ends.
func (p *part) stop(ctx context.Context) error {
	p.cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping the %s: %w", p.name, context.Cause(ctx))
	}
}

// until asks check until it succeeds, the part ends, or ctx ends. The error is
// then the last of check's.
func (p *part) until(ctx context.Context, check func(context.Context) error) error {
	const interval = 20 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last error
	for {
		select {
		case <-timer.C:
		case <-p.done:
			return fmt.Errorf("%s ended by itself: %w", p.name, p.err)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waiting for the %s: %w", p.name, context.Cause(ctx)), last)
		}
		if last = check(ctx); last == nil {
			return nil
		}
		timer.Reset(interval)
	}
}
