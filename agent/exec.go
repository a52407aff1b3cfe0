package agent

import (
	"bytes"
	"context"
	"errors"
	"sync"

	v1 "k8s.io/api/core/v1"

	"nodelet/agent/pod"
	"nodelet/agent/podruntime"
	"nodelet/agent/probe"
)

// execer makes exec probes through the runtime's streams.
type execer struct{ podruntime.Streams }

// maxProbeOutput bounds what is kept of a probe's output, as with the kubelet.
const maxProbeOutput = 10 << 10

// ProbeExec runs a command and returns what it wrote.
func (e execer) ProbeExec(ctx context.Context, containerID string, command []string) (int, string, error) {
	var out bytes.Buffer
	limited := &limitedWriter{w: &out, left: maxProbeOutput}
	code, err := e.Streams.Exec(ctx, containerID, podruntime.ExecOptions{Command: command,
		StreamOptions: podruntime.StreamOptions{Stdout: limited, Stderr: limited}})
	return code, out.String(), err
}

// limitedWriter keeps the first bytes and takes the rest without keeping it.
// Standard output and error may write at once.
type limitedWriter struct {
	mu   sync.Mutex
	w    *bytes.Buffer
	left int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(p), l.left)
	l.left -= n
	l.w.Write(p[:n])
	return len(p), nil
}

// hooks run containers' lifecycle hooks as far as they leave the agent.
type hooks struct {
	execer
	network Network
	event   func(pod.Event)
}

func (h hooks) Exec(ctx context.Context, containerID string, command []string) (int, string, error) {
	return h.ProbeExec(ctx, containerID, command)
}

func (h hooks) Get(ctx context.Context, p *v1.Pod, c *v1.Container, podIP string, action *v1.HTTPGetAction) error {
	err := h.network.Hook(ctx, probe.Request{Pod: p, Container: c, PodIP: podIP}, action)
	var warning probe.Warning
	if errors.As(err, &warning) {
		h.event(pod.Event{Pod: p, Type: v1.EventTypeWarning, Reason: "LifecycleHTTPFallback", Message: string(warning)})
		return nil
	}
	return err
}
