package fakeruntime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
)

// Reasons and exit codes of ended containers, as Docker's are told to the
// kubelet.
const (
	reasonCompleted = "Completed"
	reasonError     = "Error"
	reasonOOM       = "OOMKilled"
	reasonCannotRun = "ContainerCannotRun"

	exitKilled = 137
	// What could not be started: because the program is not there, because it may not
	// be run, and for any other reason.
	exitNoProgram  = 127
	exitNotAllowed = 126
	exitCannotRun  = 128
	// exitLost is the exit code of what ran when the machine lost power.
	exitLost = 255
)

// container is one incarnation of a container.
//
//	Created --StartContainer--> Running --ends--> Exited
//	   `------a failed start, or a stop while it starts------^
type container struct {
	pod.Container
	owner   *podState
	sandbox *sandbox
	// object and spec are what it was created from, for the script.
	object *v1.Pod
	spec   *v1.Container
	// target is the container whose processes this one sees; nil for its own.
	target *container
	// starting counts the calls of StartContainer under way.
	starting int
	// ending is how it will end, if that is settled: by itself, or because it
	// was asked to.
	ending *happening
	// asked: it has got SIGTERM.
	asked bool
	// exited is closed when it ends; made when somebody waits for that.
	exited chan struct{}
}

// CreateContainer implements podruntime.Containers.
func (r *Runtime) CreateContainer(ctx context.Context, sandboxID string, config podruntime.ContainerConfig) (string, error) {
	id, err := r.createContainer(ctx, sandboxID, config)
	if err != nil {
		return "", fmt.Errorf("creating container %s, attempt %d, of pod %s: %w",
			config.Container.Name, config.Attempt, pod.FullName(config.Pod), err)
	}
	return id, nil
}

func (r *Runtime) createContainer(ctx context.Context, sandboxID string, config podruntime.ContainerConfig) (string, error) {
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	if r.sandboxes[sandboxID] == nil {
		r.unlock()
		return "", podruntime.NotFound("sandbox", sandboxID)
	}
	behavior := r.script(config.Pod, config.Container, config.Attempt)
	latency := r.draw(behavior.Create, uint64(config.Attempt), string(config.Pod.UID), config.Container.Name, "create")
	var c *container
	op := r.begin(latency, func() (err error) {
		if behavior.CreateError != "" {
			return errors.New(behavior.CreateError)
		}
		c, err = r.makeContainer(sandboxID, config)
		return err
	})
	r.unlock()
	if err := op.wait(ctx); err != nil {
		return "", err
	}
	return c.ID, nil
}

// makeContainer is the end of CreateContainer.
func (r *Runtime) makeContainer(sandboxID string, config podruntime.ContainerConfig) (*container, error) {
	s := r.sandboxes[sandboxID]
	switch {
	case s == nil:
		return nil, podruntime.NotFound("sandbox", sandboxID)
	case !s.Ready:
		return nil, fmt.Errorf("sandbox %s is not ready", sandboxID)
	}
	if _, ok := r.images[config.ImageID]; !ok {
		return nil, podruntime.NotFound("image", config.ImageID)
	}
	for _, c := range s.owner.containers {
		if c.Name != config.Container.Name || c.Attempt != config.Attempt {
			continue
		}
		if c.State != pod.ContainerCreated {
			return nil, fmt.Errorf("the name is in use by container %s, which has been started", c.ID)
		}
		if c.sandbox == s {
			return c, nil
		}
		// It was never started, and its own sandbox is gone.
		r.removeContainer(c)
		break
	}
	target := r.containers[config.Target]
	if config.Target != "" && target == nil {
		return nil, podruntime.NotFound("container", config.Target)
	}
	c := &container{owner: s.owner, sandbox: s, object: config.Pod, spec: config.Container, target: target}
	c.Container = pod.Container{
		ID:               r.newID(string(config.Pod.UID), config.Container.Name),
		Name:             config.Container.Name,
		SandboxID:        s.ID,
		Attempt:          config.Attempt,
		State:            pod.ContainerCreated,
		Hash:             config.Hash,
		CreatedAt:        r.now,
		Image:            config.Container.Image,
		ImageID:          config.ImageID,
		ImageRef:         config.ImageRef,
		TerminationGrace: time.Duration(pod.TerminationGrace(config.Pod)) * time.Second,
		PreStop:          pod.PreStop(config.Container),
	}
	resources := pod.ResourcesOf(config.Container.Resources)
	c.Resources = &resources
	s.owner.containers = slices.Insert(s.owner.containers, 0, c)
	if r.containers == nil {
		r.containers = map[string]*container{}
	}
	r.containers[c.ID] = c
	r.changed(c.owner)
	return c, nil
}

// StartContainer implements podruntime.Containers. Starting what runs already
// is success.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	if err := r.startContainer(ctx, id); err != nil {
		return fmt.Errorf("starting container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) startContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	c := r.containers[id]
	if c == nil {
		r.unlock()
		return podruntime.NotFound("container", id)
	}
	if c.State == pod.ContainerRunning {
		r.unlock()
		return nil
	}
	r.checkStart(c)
	behavior := r.behavior(c)
	c.starting++
	op := r.begin(r.drawFor(c, behavior.Start, "start"), func() error {
		c.starting--
		return r.run(c, behavior)
	})
	r.unlock()
	return op.wait(ctx)
}

// run is the end of StartContainer.
func (r *Runtime) run(c *container, behavior Behavior) error {
	switch {
	case r.containers[c.ID] == nil:
		return podruntime.NotFound("container", c.ID)
	case c.State == pod.ContainerRunning:
		return nil
	case c.State == pod.ContainerExited:
		return errors.New("it has ended already")
	case !c.sandbox.Ready:
		return fmt.Errorf("sandbox %s is not ready", c.SandboxID)
	case c.target != nil && c.target.State != pod.ContainerRunning:
		return fmt.Errorf("its target, container %s, is not running", c.target.ID)
	}
	if behavior.StartError != "" {
		r.end(c, startErrorCode(behavior.StartError), reasonCannotRun, behavior.StartError)
		return errors.New(behavior.StartError)
	}
	c.State, c.StartedAt = pod.ContainerRunning, r.now
	r.planEnd(c, behavior)
	r.checkRunning(c)
	r.changed(c.owner)
	return nil
}

// startErrorCode is the exit code that Docker gives a container that could not be
// started.
func startErrorCode(message string) int32 {
	switch {
	case strings.Contains(message, "executable file not found"), strings.Contains(message, "no such file or directory"):
		return exitNoProgram
	case strings.Contains(message, "permission denied"):
		return exitNotAllowed
	}
	return exitCannotRun
}

// planEnd settles how a running container ends by itself.
func (r *Runtime) planEnd(c *container, b Behavior) {
	r.cancel(c.ending)
	c.ending = nil
	if b.Exits {
		r.endAfter(c, r.drawFor(c, b.ExitAfter, "exit"), func() {
			reason := reasonError
			if b.ExitCode == 0 {
				reason = reasonCompleted
			}
			r.end(c, b.ExitCode, reason, lastWords(c.spec, b))
		})
	}
	if b.OOMAfter > 0 {
		r.endAfter(c, b.OOMAfter, func() { r.end(c, exitKilled, reasonOOM, "") })
	}
}

// lastWords is the termination message of a container that ends by itself: what it
// leaves or, where its policy allows and it fails without any, the end of its log.
func lastWords(c *v1.Container, b Behavior) string {
	const lines, size = 80, 2048
	if b.TerminationMessage != "" || b.ExitCode == 0 || c.TerminationMessagePolicy != v1.TerminationMessageFallbackToLogsOnError || len(b.Logs) == 0 {
		return b.TerminationMessage
	}
	log := strings.Join(b.Logs[max(0, len(b.Logs)-lines):], "\n") + "\n"
	return log[max(0, len(log)-size):]
}

// endAfter has a running container end some time after its start, but not in
// the past, unless it is to end earlier than that.
func (r *Runtime) endAfter(c *container, age time.Duration, do func()) {
	after := max(age-r.now.Sub(c.StartedAt), 0)
	if c.ending != nil && !r.now.Add(after).Before(c.ending.at) {
		return
	}
	r.cancel(c.ending)
	c.ending = r.schedule(after, do)
}

// end is the end of a container, or of the attempt to start it.
func (r *Runtime) end(c *container, exitCode int32, reason, message string) {
	r.cancel(c.ending)
	c.ending = nil
	c.State, c.FinishedAt = pod.ContainerExited, r.now
	c.ExitCode, c.Reason, c.Message = exitCode, reason, message
	if c.exited != nil {
		close(c.exited)
		c.exited = nil
	}
	for _, other := range c.owner.containers {
		if other.target == c {
			// The first process of a PID namespace takes all others with it.
			r.kill(other)
		}
	}
	r.changed(c.owner)
}

// hasExited is closed when a running container ends.
func (c *container) hasExited() <-chan struct{} {
	if c.exited == nil {
		c.exited = make(chan struct{})
	}
	return c.exited
}

// StopContainer implements podruntime.Containers.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := r.stopContainer(ctx, id, grace); err != nil {
		return fmt.Errorf("stopping container %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	c := r.containers[id]
	if c == nil || grace <= 0 || c.State != pod.ContainerRunning {
		if c != nil {
			r.kill(c)
		}
		r.unlock()
		return nil
	}
	r.ask(c)
	exited := c.hasExited()
	r.unlock()

	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-exited:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	r.lock()
	defer r.unlock()
	if r.off {
		return errPowerOff
	}
	r.kill(c)
	return nil
}

// ask sends SIGTERM.
func (r *Runtime) ask(c *container) {
	if c.asked {
		return
	}
	c.asked = true
	b := r.behavior(c)
	if b.IgnoreSIGTERM {
		return
	}
	age := r.now.Sub(c.StartedAt) + r.drawFor(c, b.Stop, "stop")
	r.endAfter(c, age, func() {
		reason := reasonError
		if b.StopExitCode == 0 {
			reason = reasonCompleted
		}
		r.end(c, b.StopExitCode, reason, "")
	})
}

// kill sends SIGKILL. What is just being started will not run.
func (r *Runtime) kill(c *container) {
	if c.State == pod.ContainerRunning || c.State == pod.ContainerCreated && c.starting > 0 {
		r.end(c, exitKilled, reasonError, "")
	}
}

// RemoveContainer implements podruntime.Containers.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("removing container %s: %w", id, err)
	}
	defer r.unlock()
	if c := r.containers[id]; c != nil {
		r.removeContainer(c)
		r.forgetEmpty(c.owner)
	}
	return nil
}

func (r *Runtime) removeContainer(c *container) {
	r.kill(c)
	p := c.owner
	r.keepWritten(c)
	p.containers = slices.DeleteFunc(p.containers, func(other *container) bool { return other == c })
	delete(r.containers, c.ID)
	r.changed(p)
}

// UpdateContainer implements podruntime.Containers. What a container uses is
// scripted, whatever it may use.
func (r *Runtime) UpdateContainer(ctx context.Context, id string, requirements v1.ResourceRequirements) error {
	if err := r.enter(ctx); err != nil {
		return fmt.Errorf("updating container %s: %w", id, err)
	}
	defer r.unlock()
	switch c := r.containers[id]; {
	case c == nil:
		return fmt.Errorf("updating: %w", podruntime.NotFound("container", id))
	case c.State == pod.ContainerExited:
		return fmt.Errorf("updating container %s: it has ended", id)
	default:
		// Observations hold on to the old ones.
		resources := pod.ResourcesOf(requirements)
		c.Resources = &resources
		r.changed(c.owner)
	}
	return nil
}

// behavior asks the script.
func (r *Runtime) behavior(c *container) Behavior { return r.script(c.object, c.spec, c.Attempt) }

// drawFor picks from a latency of an incarnation, always the same.
func (r *Runtime) drawFor(c *container, l Latency, what string) time.Duration {
	return r.draw(l, uint64(c.Attempt), string(c.owner.uid), c.Name, what)
}
