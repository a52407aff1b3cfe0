package chaos

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Trace is what happened, to be read when a test fails. All methods may be called
// concurrently.
type Trace struct {
	mu    sync.Mutex
	lines []traced
}

// traced is one line; it is of no pod in particular if pod is empty.
type traced struct {
	at        time.Time
	pod, text string
}

// Add adds a line about a pod, or about all if pod is empty.
func (t *Trace) Add(pod, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	t.lines = append(t.lines, traced{time.Now(), pod, text})
}

// Of returns what is known of one pod.
func (t *Trace) Of(pod string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, l := range t.lines {
		if l.pod == "" || l.pod == pod {
			fmt.Fprintf(&b, "  %8.3f %s\n", l.at.Sub(t.lines[0].at).Seconds(), l.text)
		}
	}
	return b.String()
}
