package api

import (
	"fmt"
	"time"
)

// Outcome says how an attempt ended.
type Outcome string

// The outcomes. Succeeded and Cancelled (its owner did not want it any more) take
// a task out of the queue; Failed and TimedOut use up an attempt; Interrupted (it
// was stopped, or left with ExitInterrupted in a drain) and MachineFailed (a sick
// GPU ended it, or the death of its runner) do not.
const (
	Succeeded     Outcome = "Succeeded"
	Failed        Outcome = "Failed"
	TimedOut      Outcome = "TimedOut"
	Interrupted   Outcome = "Interrupted"
	MachineFailed Outcome = "MachineFailed"
	Cancelled     Outcome = "Cancelled"
)

// ExitInterrupted is the exit status by which a task says, in a drain, that it has
// stopped on purpose and wants to go on later; sysexits.h calls it EX_TEMPFAIL.
const ExitInterrupted = 75

// Result is what is stored for each attempt that ended, beside the files
// stdout and stderr.
type Result struct {
	Task    string  `json:"task"`
	Attempt int     `json:"attempt"` // counts the starts of the task, from 1
	Outcome Outcome `json:"outcome"`
	// ExitCode is the exit status of the command, -1 if a signal ended it or
	// it could not be started.
	ExitCode int    `json:"exitCode"`
	Signal   string `json:"signal,omitempty"` // name of the signal that ended the command
	Reason   string `json:"reason,omitempty"` // one sentence, where the outcome needs one

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`

	Runner string   `json:"runner"`
	GPUs   []string `json:"gpus,omitempty"` // UUIDs, in the order of CUDA_VISIBLE_DEVICES

	// Of more than the runner's limit, the begin and the end are stored, with a mark
	// between them.
	StdoutTruncated bool  `json:"stdoutTruncated,omitempty"`
	StderrTruncated bool  `json:"stderrTruncated,omitempty"`
	StdoutLeftOut   int64 `json:"stdoutLeftOut,omitempty"` // bytes
	StderrLeftOut   int64 `json:"stderrLeftOut,omitempty"`
}

// Why says in a few words how the attempt ended.
func (r *Result) Why() string {
	if r.Reason != "" {
		return r.Reason
	}
	return fmt.Sprintf("exit status %d", r.ExitCode)
}

// DeadLetter is what the queue keeps of a task that it gave up.
type DeadLetter struct {
	Task     *Task     `json:"task,omitempty"`     // nil when the document could not be read
	Document string    `json:"document,omitempty"` // that document, as it was found
	Reason   string    `json:"reason"`
	Attempts int       `json:"attempts"`
	Time     time.Time `json:"time"`
}
