package playback

import (
	"regexp"
	"strings"
)

// A Holder is a goroutine that keeps the clock of virtual time from moving.
type Holder struct {
	// Header is its line in the dump: "goroutine 7 [syscall]:".
	Header string
	// Function is where it is, the first that is not of the runtime, and Created
	// who has started it; they may be empty.
	Function, Created string
}

// String tells of the goroutine in one line.
func (h Holder) String() string {
	s := strings.TrimSuffix(h.Header, ":")
	if h.Function != "" {
		s += " in " + h.Function
	}
	if h.Created != "" {
		s += ", started by " + h.Created
	}
	return s
}

var (
	goroutineLine = regexp.MustCompile(`^goroutine \d+ .*\[([^\],]+)[^\]]*\]:$`)
	// frame is a call in a dump: the function, without its arguments.
	frame = regexp.MustCompile(`^([^\s(].*)\([^()]*\)$`)
)

// Holders finds in a dump of all goroutines, as SIGQUIT has the runtime write
// it, those that are not blocked: the clock waits for them.
func Holders(dump string) []Holder {
	var all []Holder
	for block := range strings.SplitSeq(dump, "\n\n") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		for i, l := range lines {
			m := goroutineLine.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			switch m[1] {
			case "running", "runnable", "syscall":
				all = append(all, holder(l, lines[i+1:]))
			}
			break
		}
	}
	return all
}

func holder(head string, frames []string) Holder {
	h := Holder{Header: head}
	for _, l := range frames {
		if by, ok := strings.CutPrefix(l, "created by "); ok {
			h.Created, _, _ = strings.Cut(by, " in goroutine")
			return h
		}
		m := frame.FindStringSubmatch(l)
		if m == nil || h.Function != "" {
			continue
		}
		f := m[1]
		internal := strings.HasPrefix(f, "runtime.") || strings.HasPrefix(f, "internal/") || strings.HasPrefix(f, "syscall.")
		if !internal {
			h.Function = f
		}
	}
	return h
}
