package history

import (
	"fmt"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

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
