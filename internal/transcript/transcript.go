// Package transcript is what happened to every pod and node of a run, in a form
// in which runs can be compared: one line for each transition, times rounded to a
// grain, random suffixes of names replaced by *, lines within a grain sorted. Of
// pods that differ only in their suffix the transcript tells how many did what,
// not which: nobody chose between them.
package transcript

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Entry is one transition of an object.
type Entry struct {
	// At is since the beginning of the run.
	At time.Duration
	// Object is its kind and name, What the transition and its reason.
	Object, What string
}

// String is the entry's line.
func (e Entry) String() string { return stamp(e.At) + "  " + e.Object + "  " + e.What }

// stamp is a duration as hours, minutes, seconds, and milliseconds if there are any.
func stamp(d time.Duration) string {
	s := fmt.Sprintf("%02d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	if ms := d.Milliseconds() % 1000; ms != 0 {
		s += fmt.Sprintf(".%03d", ms)
	}
	return s
}

// Canonical rounds entries down to a grain and sorts them.
func Canonical(entries []Entry, grain time.Duration) []Entry {
	out := slices.Clone(entries)
	for i := range out {
		out[i].At = out[i].At.Truncate(grain)
	}
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Object, b.Object), cmp.Compare(a.What, b.What))
	})
	return out
}

// Write writes entries as lines.
func Write(w io.Writer, entries []Entry) error {
	b := bufio.NewWriter(w)
	for _, e := range entries {
		fmt.Fprintln(b, e)
	}
	return b.Flush()
}

var line = regexp.MustCompile(`^(\d+):(\d\d):(\d\d)(?:\.(\d{3}))?  (.+?)  (.+)$`)

// Read reads what Write has written.
func Read(r io.Reader) ([]Entry, error) {
	var all []Entry
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		m := line.FindStringSubmatch(in.Text())
		if m == nil {
			return nil, fmt.Errorf("line %d is not of a transcript: %q", n, in.Text())
		}
		at, err := time.ParseDuration(m[1] + "h" + m[2] + "m" + m[3] + "s" + cmp.Or(m[4], "0") + "ms")
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		all = append(all, Entry{At: at, Object: m[5], What: m[6]})
	}
	return all, in.Err()
}

// diffContext is how many equal lines are shown before a difference, and how many
// lines of each side after it.
const diffContext = 4

// Diff shows the first difference between two transcripts in its context, or
// returns "" if there is none. With a tolerance, what happened to each object must
// be the same and happen at most that much earlier or later.
func Diff(a, b []Entry, tolerance time.Duration) string {
	if tolerance > 0 {
		return diffWithin(a, b, tolerance)
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	if i == len(a) && i == len(b) {
		return ""
	}
	var text strings.Builder
	for _, e := range a[max(0, i-diffContext):i] {
		fmt.Fprintf(&text, "  %s\n", e)
	}
	show(&text, "-", a, i)
	show(&text, "+", b, i)
	return text.String()
}

func show(text *strings.Builder, sign string, entries []Entry, from int) {
	if from == len(entries) {
		fmt.Fprintf(text, "%s (ends here)\n", sign)
	}
	for _, e := range entries[from:min(from+diffContext, len(entries))] {
		fmt.Fprintf(text, "%s %s\n", sign, e)
	}
}

// diffWithin compares object by object and transition by transition.
func diffWithin(a, b []Entry, tolerance time.Duration) string {
	left, right := byTransition(a), byTransition(b)
	for i := range max(len(left), len(right)) {
		switch {
		case i == len(left):
			return fmt.Sprintf("- (nothing)\n+ %s\n", right[i])
		case i == len(right):
			return fmt.Sprintf("- %s\n+ (nothing)\n", left[i])
		}
		l, r := left[i], right[i]
		if l.Object != r.Object || l.What != r.What || (l.At-r.At).Abs() > tolerance {
			return fmt.Sprintf("- %s\n+ %s\n", l, r)
		}
	}
	return ""
}

func byTransition(entries []Entry) []Entry {
	out := slices.Clone(entries)
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.What, b.What), cmp.Compare(a.At, b.At))
	})
	return out
}
