package scenarios

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteVerdict writes how a scenario ended, for people. A failure is told with
// what was expected, what was seen over time and the objects' events.
func WriteVerdict(w io.Writer, r *Result) error {
	var b strings.Builder
	verdict := "PASS"
	if !r.Passed() {
		verdict = "FAIL"
	}
	fmt.Fprintf(&b, "%s  %s  %s  (%s)\n", verdict, r.Scenario.Name, seconds(r.Took), summary(r))
	for i, s := range r.Steps {
		if s.Err == nil {
			continue
		}
		fmt.Fprintf(&b, "\n  step %d of %d: %s\n", i, len(r.Steps)-1, s.Name)
		writeFailure(&b, s.Err)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "\n  an agent broke a rule: %s\n", v)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeFailure(b *strings.Builder, err error) {
	var e *ExpectationError
	if !errors.As(err, &e) {
		fmt.Fprintf(b, "    %v\n", err)
		return
	}
	fmt.Fprintf(b, "    expected: %s (within %v)\n", e.Want, e.Within)
	if e.Held {
		b.WriteString("    it was so for a while and did not stay so\n")
	}
	b.WriteString("    seen:\n")
	for _, s := range e.Seen {
		fmt.Fprintf(b, "      %8s  %s\n", "+"+seconds(s.After), s.Saw)
	}
	if len(e.Events) > 0 {
		b.WriteString("    events:\n")
	}
	for _, line := range e.Events {
		fmt.Fprintf(b, "      %s\n", line)
	}
}

func summary(r *Result) string {
	passed, failed, skipped := 0, 0, 0
	for _, s := range r.Steps {
		switch {
		case s.Skipped:
			skipped++
		case s.Err != nil:
			failed++
		default:
			passed++
		}
	}
	parts := []string{fmt.Sprintf("%d steps passed", passed)}
	if failed > 0 {
		parts = append(parts, fmt.Sprintf("%d failed", failed))
	}
	if skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d not come to", skipped))
	}
	return strings.Join(parts, ", ")
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
	Name    string   `json:"name"`
	Status  string   `json:"status"`
	Seconds float64  `json:"seconds"`
	Error   string   `json:"error,omitempty"`
	Seen    []Seen   `json:"seen,omitempty"`
	Events  []string `json:"events,omitempty"`
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

// WriteJSON writes how scenarios ended, for programs. Times are in seconds,
// those in seen in nanoseconds.
func WriteJSON(w io.Writer, results []*Result) error {
	out := report{Passed: true, Scenarios: []scenarioReport{}}
	for _, r := range results {
		out.Passed = out.Passed && r.Passed()
		s := scenarioReport{Name: r.Scenario.Name, File: r.Scenario.File, Passed: r.Passed(), Seconds: r.Took.Seconds(),
			Time: r.Scenario.Time, Seed: r.Scenario.Seed, APILoad: r.Scenario.APILoad, Violations: r.Violations}
		for i := range r.Steps {
			step := stepReport{Name: r.Steps[i].Name, Status: r.Steps[i].status(), Seconds: r.Steps[i].Took.Seconds()}
			if err := r.Steps[i].Err; err != nil {
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
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// The JUnit form: a suite a scenario, a case a step.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitFailure `xml:"failure"`
	Skipped *struct{}     `xml:"skipped"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes how scenarios ended in the XML that CI systems read.
func WriteJUnit(w io.Writer, results []*Result) error {
	var out junitSuites
	for _, r := range results {
		suite := junitSuite{Name: r.Scenario.Name, Time: fmt.Sprintf("%.3f", r.Took.Seconds())}
		for i := range r.Steps {
			s := &r.Steps[i]
			c := junitCase{Name: s.Name, Class: r.Scenario.Name, Time: fmt.Sprintf("%.3f", s.Took.Seconds())}
			switch {
			case s.Skipped:
				c.Skipped = &struct{}{}
				suite.Skipped++
			case s.Err != nil:
				var text strings.Builder
				writeFailure(&text, s.Err)
				c.Failure = &junitFailure{s.Err.Error(), text.String()}
				suite.Failures++
			}
			suite.Cases = append(suite.Cases, c)
		}
		for _, v := range r.Violations {
			suite.Cases = append(suite.Cases, junitCase{Name: "no agent broke a rule", Class: r.Scenario.Name,
				Time: "0.000", Failure: &junitFailure{Message: v}})
			suite.Failures++
		}
		suite.Tests = len(suite.Cases)
		out.Suites = append(out.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
