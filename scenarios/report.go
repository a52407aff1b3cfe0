package scenarios

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxViolations bounds those that a verdict shows.
const maxViolations = 10

// WriteVerdict writes how a scenario ended, for people. A failure is told with
// what was expected, what was seen over time and the objects' events.
func WriteVerdict(w io.Writer, r *Result) error {
	var b strings.Builder
	verdict := "PASS"
	if !r.Passed() {
		verdict = "FAIL"
	}
	fmt.Fprintf(&b, "%s  %s  %s%s  (%s)\n", verdict, r.Scenario.Name, seconds(r.Took), virtual(r), summary(r))
	for i, s := range r.Steps {
		if s.Err == nil {
			continue
		}
		fmt.Fprintf(&b, "\n  step %d of %d: %s\n", i, len(r.Steps)-1, s.Name)
		writeFailure(&b, s.Err)
	}
	for _, v := range r.Violations[:min(len(r.Violations), maxViolations)] {
		fmt.Fprintf(&b, "\n  an agent broke a rule: %s\n", v)
	}
	if more := len(r.Violations) - maxViolations; more > 0 {
		fmt.Fprintf(&b, "\n  and %d times more\n", more)
	}
	if !r.Passed() {
		fmt.Fprintf(&b, "\n  to repeat: seed %d, API load %s, %s\n", r.Scenario.Seed, r.Scenario.APILoad, r.Scenario.File)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// virtual says how fast virtual time ran, or nothing.
func virtual(r *Result) string {
	if r.Wall == 0 {
		return ""
	}
	return fmt.Sprintf(" of virtual time in %s (%.0fx)", seconds(r.Wall), r.Took.Seconds()/r.Wall.Seconds())
}

// writeFailure tells why a step failed.
func writeFailure(b *strings.Builder, err error) {
	var e *ExpectationError
	if !errors.As(err, &e) {
		fmt.Fprintf(b, "    %v\n", err)
		return
	}
	fmt.Fprintf(b, "    expected  %s\n", e.Want)
	fmt.Fprintf(b, "    within    %v", e.Within)
	if e.For > 0 {
		fmt.Fprintf(b, ", for %v", e.For)
	}
	switch {
	case e.Cut != nil:
		fmt.Fprintf(b, "; %v", e.Cut)
	case e.Held:
		b.WriteString("; it was so, but did not stay so")
	}
	b.WriteString("\n    seen")
	if e.Changes > len(e.Seen) {
		fmt.Fprintf(b, " (%d of %d changes)", len(e.Seen), e.Changes)
	}
	b.WriteString("\n")
	for _, s := range e.Seen {
		fmt.Fprintf(b, "    %8s  %s\n", "+"+seconds(s.After), s.Saw)
	}
	if len(e.Events) > 0 {
		b.WriteString("    events\n")
	}
	for _, line := range e.Events {
		fmt.Fprintf(b, "    %s\n", line)
	}
}

// summary counts the steps and the expectations among them. The start of the
// nodes is not one of the scenario's steps.
func summary(r *Result) string {
	passed, failed, skipped, expectations := 0, 0, 0, 0
	for i, s := range r.Steps {
		switch {
		case s.Skipped:
			skipped++
		case s.Err != nil:
			failed++
		case i > 0:
			passed++
		}
	}
	for i := range r.Scenario.Steps {
		if r.Scenario.Steps[i].Expect != nil {
			expectations++
		}
	}
	if failed == 0 {
		return fmt.Sprintf("%s, %s", plural(passed, "step"), plural(expectations, "expectation"))
	}
	text := fmt.Sprintf("%s passed, %d failed", plural(passed, "step"), failed)
	if skipped > 0 {
		text += fmt.Sprintf(", %d not reached", skipped)
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// report is the JSON form of a run.
type report struct {
	Passed    bool             `json:"passed"`
	Scenarios []scenarioReport `json:"scenarios"`
}

type scenarioReport struct {
	Name       string       `json:"name"`
	File       string       `json:"file"`
	Passed     bool         `json:"passed"`
	Seconds    float64      `json:"seconds"`
	Time       TimeMode     `json:"time"`
	Seed       uint64       `json:"seed"`
	APILoad    string       `json:"apiLoad"`
	Steps      []stepReport `json:"steps"`
	Violations []string     `json:"violations,omitempty"`
}

type stepReport struct {
	Name    string  `json:"name"`
	Detail  string  `json:"detail,omitempty"`
	Status  string  `json:"status"`
	Seconds float64 `json:"seconds"`
	Error   string  `json:"error,omitempty"`
	Seen    []Seen  `json:"seen,omitempty"`
	// Events are lines of text, the newest last.
	Events []string `json:"events,omitempty"`
}

func (s *StepResult) status() string {
	switch {
	case s.Skipped:
		return "skipped"
	case s.Err != nil:
		return "failed"
	}
	return "passed"
}

// WriteJSON writes how scenarios ended, for programs. Times are in seconds.
func WriteJSON(w io.Writer, results []*Result) error {
	out := report{Passed: true, Scenarios: []scenarioReport{}}
	for _, r := range results {
		out.Passed = out.Passed && r.Passed()
		s := scenarioReport{Name: r.Scenario.Name, File: r.Scenario.File, Passed: r.Passed(), Seconds: r.Took.Seconds(),
			Time: r.Scenario.Time, Seed: r.Scenario.Seed, APILoad: r.Scenario.APILoad, Violations: r.Violations}
		for i := range r.Steps {
			from := &r.Steps[i]
			step := stepReport{Name: from.Name, Detail: from.Detail, Status: from.status(), Seconds: from.Took.Seconds()}
			if err := from.Err; err != nil {
				step.Error = err.Error()
				var e *ExpectationError
				if errors.As(err, &e) {
					step.Seen, step.Events = e.Seen, e.Events
				}
			}
			s.Steps = append(s.Steps, step)
		}
		out.Scenarios = append(out.Scenarios, s)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}
