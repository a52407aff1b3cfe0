package volume

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/internal/sleep"
)

const (
	// patience is how long volumes are waited for when others have failed.
	patience = 500 * time.Millisecond
	// processPeriod is how often it is asked what a volume is, for as long as
	// processPatience, as with the kubelet: the API server may hear of a pod's
	// binding later than its node, and forbids it to look at the pod's claims until
	// then.
	processPeriod   = 100 * time.Millisecond
	processPatience = 300 * time.Millisecond
)

// attempt is a volume that is being set up, or was.
type attempt struct {
	cancel context.CancelFunc
	// done is closed when err is how it ended.
	done chan struct{}
	err  error
}

func (a *attempt) ended() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// setUpAll sets up a pod's volumes beside each other, so that none holds up another.
// The error is that of those that have failed, soon after the first.
func (m *Manager) setUpAll(ctx context.Context, e *entry, p *v1.Pod) error {
	e.unused = nil
	if e.settled == nil {
		e.settled = make(chan struct{}, 1)
	}
	waiting := map[string]*attempt{}
	for i := range p.Spec.Volumes {
		spec := &p.Spec.Volumes[i]
		if !isUsed(p, spec.Name) || spec.Image != nil && m.Layers != nil {
			// An image is pulled for the container that mounts it, and is there then.
			e.unused = append(e.unused, spec.Name)
			continue
		}
		if e.attempts[spec.Name] == nil {
			put(&e.attempts, spec.Name, m.attempt(e, p, spec))
		}
		waiting[spec.Name] = e.attempts[spec.Name]
	}
	e.await(ctx, waiting)
	if ctx.Err() != nil {
		e.giveUp()
		return ctx.Err()
	}
	var failed failures
	for i := range p.Spec.Volumes {
		name := p.Spec.Volumes[i].Name
		switch a := waiting[name]; {
		case a == nil:
		case !a.ended():
			failed.pending(name)
		default:
			delete(e.attempts, name)
			failed.add(name, a.err)
		}
	}
	if len(e.attempts) == 0 {
		e.attempts, e.settled = nil, nil
	}
	return failed.join()
}

// attempt begins to set up a volume.
func (m *Manager) attempt(e *entry, p *v1.Pod, spec *v1.Volume) *attempt {
	ctx, cancel := context.WithCancel(m.life)
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Not when Run waits for them already.
	if a.err = m.life.Err(); a.err != nil {
		cancel()
		close(a.done)
		return a
	}
	settled := e.settled
	m.setups.Go(func() {
		defer cancel()
		a.err = m.setUp(ctx, e, p, spec)
		close(a.done)
		select {
		case settled <- struct{}{}:
		default:
		}
	})
	return a
}

// await waits until all volumes are set up, or some time after one has failed.
func (e *entry) await(ctx context.Context, waiting map[string]*attempt) {
	var timeout <-chan time.Time
	for {
		going, failed := false, false
		for _, a := range waiting {
			ended := a.ended()
			going = going || !ended
			failed = failed || ended && a.err != nil
		}
		if !going {
			return
		}
		if failed && timeout == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-e.settled:
		case <-timeout:
			return
		case <-ctx.Done():
			return
		}
	}
}

// endSetups ends what is being set up, of all pods.
func (m *Manager) endSetups() {
	m.mu.Lock()
	m.endLife()
	m.mu.Unlock()
	m.setups.Wait()
}

// giveUp ends what is being set up.
func (e *entry) giveUp() {
	for _, a := range e.attempts {
		a.cancel()
	}
	for _, a := range e.attempts {
		<-a.done
	}
	e.attempts, e.settled = nil, nil
}

// setUp sets up one volume.
func (m *Manager) setUp(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume) error {
	if err := m.process(ctx, e, p, spec); err != nil {
		return &unprocessed{err}
	}
	v, err := m.volume(e, p, spec)
	if err == nil && v.Kind.hasFiles() {
		v.Files, err = m.files(ctx, e, p, spec)
		v.MountPoints = mountPoints(p, spec.Name)
	}
	if err == nil && v.Kind == CSIDriver {
		err = m.publish(ctx, e, p, spec, v)
	}
	if err == nil && v.Kind == Image {
		v.Layers, err = m.Layers(ctx, spec.Image.Reference)
	}
	if err == nil {
		err = m.Store.SetUp(v)
	}
	if err != nil {
		return failedStep(v.Name, err)
	}
	return nil
}

// process finds out what a volume is, and asks again for a while if that fails.
func (m *Manager) process(ctx context.Context, e *entry, p *v1.Pod, spec *v1.Volume) error {
	for began := time.Now(); ; {
		err := m.lookUpClaim(ctx, e, p, spec)
		if err == nil || time.Since(began) >= processPatience || !sleep.For(ctx, processPeriod) {
			return err
		}
	}
}
