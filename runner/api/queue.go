package api

import "time"

// TaskState says where a task is on its way.
type TaskState string

// The states. The last three are ends, from which only its owner brings a task back.
const (
	TaskWaiting   TaskState = "Waiting"
	TaskRunning   TaskState = "Running" // a runner has it, though it may not have started it yet
	TaskFinished  TaskState = "Finished"
	TaskDead      TaskState = "Dead"
	TaskCancelled TaskState = "Cancelled"
)

// Ended says whether it is an end.
func (s TaskState) Ended() bool { return s != TaskWaiting && s != TaskRunning }

// TaskStatus is what a queue knows of a task.
type TaskStatus struct {
	ID    string    `json:"id"`
	State TaskState `json:"state"`
	// Task is the document, which may be missing for one that was no valid task.
	Task *Task `json:"task,omitempty"`
	// Resources is what it needs, as far as that is known.
	Resources Resources `json:"resources,omitzero"`
	// Position counts those that would start before it anywhere, from 1; 0 if it
	// does not wait.
	Position int `json:"position,omitempty"`
	// NotBefore is the end of the pause after an attempt that failed.
	NotBefore time.Time `json:"notBefore,omitzero"`
	// Since is when it got to where it is, as far as that is known.
	Since  time.Time `json:"since,omitzero"`
	Starts int       `json:"starts"`           // how often it was started
	Spent  int       `json:"spent"`            // attempts that count against it
	Runner string    `json:"runner,omitempty"` // who has claimed it
	GPUs   []string  `json:"gpus,omitempty"`   // that it runs on
	Reason string    `json:"reason,omitempty"` // why it is dead, or waits again
}
