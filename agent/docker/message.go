package docker

import (
	"bytes"
	"context"
	"io"
	"os"

	"github.com/docker/docker/api/types/container"
	v1 "k8s.io/api/core/v1"

	"nodelet/agent/podruntime"
)

// Bounds of a termination message, in bytes and lines, as the API reference
// has them.
const (
	maxMessage      = 4096
	maxMessageLog   = 2048
	maxMessageLines = 80
)

// terminationMessage is what an ended container left as its last words: in the
// file that is mounted for them or, where its policy allows and it failed
// without any, the end of its log.
func (r *Runtime) terminationMessage(ctx context.Context, c *container.InspectResponse) string {
	message := readMessage(c)
	fallback := v1.TerminationMessagePolicy(c.Config.Labels[labelPolicy]) == v1.TerminationMessageFallbackToLogsOnError
	if message != "" || !fallback || c.State.ExitCode == 0 {
		return message
	}
	var log tail
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	if err := r.Logs(ctx, c.ID, podruntime.LogOptions{Tail: maxMessageLines}, &log, &log); err != nil {
		return "Error on reading termination message from logs: " + err.Error()
	}
	return string(log.last)
}

func readMessage(c *container.InspectResponse) string {
	path := c.Config.Labels[labelMessagePath]
	for _, m := range c.Mounts {
		if path == "" || m.Destination != path {
			continue
		}
		f, err := os.Open(m.Source)
		if err != nil {
			return ""
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			return ""
		}
		data, err := io.ReadAll(io.LimitReader(f, maxMessage))
		if err != nil {
			return ""
		}
		return string(bytes.ToValidUTF8(data, nil))
	}
	return ""
}

// tail keeps the last bytes that are written to it.
type tail struct{ last []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.last = append(t.last, p...)
	if over := len(t.last) - maxMessageLog; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(p), nil
}
