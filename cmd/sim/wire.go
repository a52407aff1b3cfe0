package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"nodelet/scenarios"
)

// message is one line of what a child process in virtual time tells its parent:
// exactly one field is set.
type message struct {
	// Clock is where the child's clock stands in its memory; it is sent first.
	Clock  uint64      `json:"clock,omitempty"`
	Say    string      `json:"say,omitempty"`
	Line   string      `json:"line,omitempty"`
	Log    string      `json:"log,omitempty"`
	Update *wireUpdate `json:"update,omitempty"`
	Result *wireResult `json:"result,omitempty"`
	// Failure is why there is no result, and Code the exit code for it.
	Failure string `json:"failure,omitempty"`
	Code    int    `json:"code,omitempty"`
}

// wireUpdate is an update whose error can be sent.
type wireUpdate struct {
	scenarios.Update
	Err *wireError `json:"err"`
}

// wireError is an error that can be sent: an expectation's, or any other's text.
type wireError struct {
	Expectation *scenarios.ExpectationError `json:"expectation,omitempty"`
	Cut         string                      `json:"cut,omitempty"`
	Text        string                      `json:"text"`
}

type wireResult struct {
	Took       time.Duration `json:"took"`
	Steps      []wireStep    `json:"steps"`
	Violations []string      `json:"violations,omitempty"`
}

type wireStep struct {
	scenarios.StepResult
	Err *wireError `json:"err"`
}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	var e *scenarios.ExpectationError
	if errors.As(err, &e) {
		sent := *e
		if e.Cut != nil {
			w.Cut, sent.Cut = e.Cut.Error(), nil
		}
		w.Expectation = &sent
	}
	return w
}

func (w *wireError) error() error {
	switch {
	case w == nil:
		return nil
	case w.Expectation == nil:
		return errors.New(w.Text)
	case w.Cut != "":
		w.Expectation.Cut = errors.New(w.Cut)
	}
	return w.Expectation
}

func resultToWire(r *scenarios.Result) *wireResult {
	w := &wireResult{Took: r.Took, Violations: r.Violations}
	for _, s := range r.Steps {
		step := wireStep{StepResult: s, Err: toWire(s.Err)}
		step.StepResult.Err = nil
		w.Steps = append(w.Steps, step)
	}
	return w
}

func (w *wireResult) result(s *scenarios.Scenario) *scenarios.Result {
	r := &scenarios.Result{Scenario: s, Took: w.Took, Violations: w.Violations}
	for _, step := range w.Steps {
		step.StepResult.Err = step.Err.error()
		r.Steps = append(r.Steps, step.StepResult)
	}
	return r
}

// wire is the progress of a child process: everything goes to the parent.
type wire struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newWire(w io.Writer) *wire { return &wire{out: json.NewEncoder(w)} }

func (w *wire) send(m message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	// A parent that is gone has killed this process too.
	_ = w.out.Encode(m)
}

func (w *wire) say(what string)  { w.send(message{Say: what}) }
func (w *wire) line(text string) { w.send(message{Line: text}) }
func (w *wire) update(u scenarios.Update) {
	sent := &wireUpdate{Update: u, Err: toWire(u.Err)}
	sent.Update.Err = nil
	w.send(message{Update: sent})
}

// wireLog is where a child's log goes: each write is one line.
type wireLog struct{ w *wire }

func (l wireLog) Write(p []byte) (int, error) {
	l.w.send(message{Log: string(bytes.TrimSpace(p))})
	return len(p), nil
}
