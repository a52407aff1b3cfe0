package scenarios

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// The JUnit form: a suite a scenario, a case a step.
type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Time     string       `xml:"time,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	File     string      `xml:"file,attr"`
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
	var took time.Duration
	for _, r := range results {
		suite := newJUnitSuite(r)
		took += r.Took
		out.Tests += suite.Tests
		out.Failures += suite.Failures
		out.Suites = append(out.Suites, suite)
	}
	out.Time = junitTime(took)
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

func newJUnitSuite(r *Result) junitSuite {
	suite := junitSuite{Name: r.Scenario.Name, File: r.Scenario.File, Time: junitTime(r.Took)}
	for i := range r.Steps {
		s := &r.Steps[i]
		// The number keeps apart steps that do the same.
		c := junitCase{Name: fmt.Sprintf("%d %s", i, s.Name), Class: r.Scenario.Name, Time: junitTime(s.Took)}
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
			Time: junitTime(0), Failure: &junitFailure{Message: v}})
		suite.Failures++
	}
	suite.Tests = len(suite.Cases)
	return suite
}

func junitTime(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
