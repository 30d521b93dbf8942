// Package history is the record of one scenario: everything that happened, in
// the order in which the harness learned of it. Expectations look at the
// record, not at samples, so that nothing that was there for a moment is missed
// and nothing is waited for longer than it takes.
package history

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Entry is one thing that happened. Exactly one of the pointers, texts and
// Start is set.
type Entry struct {
	Sequence int       `json:"sequence"` // counts the entries, from 1
	Time     time.Time `json:"time"`
	// Runner and Process say whose status, log line or exit it is; processes of
	// a runner are numbered from 1.
	Runner  string `json:"runner,omitempty"`
	Process int    `json:"process,omitempty"`

	Step    *Step             `json:"step,omitempty"`
	Output  string            `json:"output,omitempty"` // what is said, typed and printed, for who looks on
	Mark    string            `json:"mark,omitempty"`
	Trouble string            `json:"trouble,omitempty"` // why the record may have a gap
	Start   bool              `json:"start,omitempty"`   // a process was started
	Map     *Map              `json:"map,omitempty"`
	Status  *api.Status       `json:"status,omitempty"`
	Log     string            `json:"log,omitempty"`
	Exit    *targets.Exit     `json:"exit,omitempty"`
	Note    *targets.TaskNote `json:"note,omitempty"`
	Queue   *targets.Contents `json:"queue,omitempty"`
	Answer  *Answer           `json:"answer,omitempty"`
}

// Answer is what the queue, or a path of a runner's process, was asked and said.
type Answer struct {
	Path string `json:"path,omitempty"` // of the runner; without it, the queue did not answer
	Code int    `json:"code,omitempty"`
	Body string `json:"body,omitempty"`
	// Error is why there was no answer.
	Error string `json:"error,omitempty"`
}

// Step is what the harness does; it has an entry when it begins and one when it
// has ended.
type Step struct {
	Line  int    `json:"line,omitempty"` // of the scenario's file
	Text  string `json:"text"`
	Ended bool   `json:"ended,omitempty"`
	Error string `json:"error,omitempty"` // at the end, why it failed
}

// Map is a version of a ConfigMap, as the harness's own watch saw it.
type Map struct {
	Namespace       string `json:"namespace"`
	Name            string `json:"name"`
	ResourceVersion string `json:"resourceVersion"`
	// Deleted maps have the version of their last change: the deletion's is above that.
	Deleted bool              `json:"deleted,omitempty"`
	Data    map[string]string `json:"data,omitempty"`
}

// History is an append-only list of entries, safe for concurrent use.
type History struct {
	mu      sync.Mutex
	entries []Entry
	summary *Summary
	grown   chan struct{} // closed and replaced with each entry
}

// New returns an empty history.
func New() *History {
	return &History{summary: NewSummary(), grown: make(chan struct{})}
}

// Add appends an entry, with its number and the present time. What the entry
// points to belongs to the history from then on.
func (h *History) Add(e Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Time = time.Now()
	e.Sequence = len(h.entries) + 1
	h.entries = append(h.entries, e)
	h.summary.Apply(e)
	close(h.grown)
	h.grown = make(chan struct{})
}

// Entries returns what happened up to now.
func (h *History) Entries() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[:len(h.entries):len(h.entries)]
}

// WriteJSON writes the whole record, one entry a line.
func (h *History) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	for _, e := range h.Entries() {
		if err := encoder.Encode(e); err != nil {
			return fmt.Errorf("write record: %w", err)
		}
	}
	return nil
}

// View calls look with the summary as it is now. It must not be kept.
func (h *History) View(look func(*Summary)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	look(h.summary)
}

// Wait calls done with the summary, and again after every entry, until it returns
// true or ctx ends. The summary must not be kept.
func (h *History) Wait(ctx context.Context, done func(*Summary) bool) error {
	for {
		h.mu.Lock()
		ok, grown := done(h.summary), h.grown
		h.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Process puts what a process of a runner tells into the record.
type Process struct {
	Record *History
	Runner string
	Number int // from 1
}

var _ targets.Sink = Process{}

// Add appends an entry that is about the process.
func (p Process) Add(e Entry) {
	e.Runner, e.Process = p.Runner, p.Number
	p.Record.Add(e)
}

// What targets.Sink has.
func (p Process) Status(s api.Status)    { p.Add(Entry{Status: &s}) }
func (p Process) Log(line string)        { p.Add(Entry{Log: line}) }
func (p Process) Exit(exit targets.Exit) { p.Add(Entry{Exit: &exit}) }
func (p Process) Trouble(err error) {
	p.Record.Add(Entry{Trouble: fmt.Sprintf("runner %s: %v", p.Runner, err)})
}
