package history

import (
	"strings"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Facts is what the entries so far add up to. It is a pure fold: the same
// entries always give the same facts.
type Facts struct {
	Entries int // how many there are
	Runners map[string]*Runner
	// Maps are the newest versions, by namespace/name.
	Maps map[string]Map
	// Tasks by id, as the tasks themselves told.
	Tasks map[string]*Task
	Queue *targets.Contents // as it was last read
	// QueueTrouble is why it could not be read after that, if so.
	QueueTrouble string
	// Step is what the harness does now, nil between two steps.
	Step *Step
	// Troubles say why the record may have gaps.
	Troubles []string
}

// Runner is what is known of a runner.
type Runner struct {
	Processes int
	// Status is the newest one of the newest process, nil before the first.
	// That of a process that has ended is kept.
	Status *api.Status
	Exit   *targets.Exit // of the newest process, nil while it lives
	// Transitions counts the changes of the newest process's phase.
	Transitions int
	Log         []string // lines of all processes
	Started     int      // attempts, as the tasks told
	Finished    int
	// Answers are the last ones of the newest process, by path.
	Answers map[string]Entry
}

// Task is what is known of a task.
type Task struct {
	Started, Finished int
	// Steps are how often it has done each of its steps.
	Steps map[int]int
}

// NewFacts returns the facts of an empty history.
func NewFacts() *Facts {
	return &Facts{Runners: make(map[string]*Runner), Maps: make(map[string]Map), Tasks: make(map[string]*Task)}
}

// Sum returns what entries add up to.
func Sum(entries []Entry) *Facts {
	f := NewFacts()
	for _, e := range entries {
		f.Apply(e)
	}
	return f
}

// Apply takes one more entry into account.
func (f *Facts) Apply(e Entry) {
	f.Entries++
	switch {
	case e.Start:
		r := f.Runner(e.Runner)
		r.Processes, r.Status, r.Exit, r.Transitions, r.Answers = e.Process, nil, nil, 0, make(map[string]Entry)
	case e.Status != nil:
		r := f.Runner(e.Runner)
		if e.Process != r.Processes {
			return // a late word of a process that was replaced
		}
		if r.Status != nil && r.Status.Phase != e.Status.Phase {
			r.Transitions++
		}
		r.Status = e.Status
	case e.Exit != nil:
		if r := f.Runner(e.Runner); e.Process == r.Processes {
			r.Exit = e.Exit
		}
	case e.Log != "":
		r := f.Runner(e.Runner)
		r.Log = append(r.Log, e.Log)
	case e.Map != nil:
		f.Maps[e.Map.Namespace+"/"+e.Map.Name] = *e.Map
	case e.Note != nil:
		f.note(*e.Note)
	case e.Queue != nil:
		f.Queue, f.QueueTrouble = e.Queue, ""
	case e.Answer != nil && e.Answer.Path == "":
		f.QueueTrouble = e.Answer.Error
	case e.Answer != nil:
		f.Runner(e.Runner).Answers[e.Answer.Path] = e
	case e.Trouble != "":
		f.Troubles = append(f.Troubles, e.Trouble)
	case e.Step != nil && e.Step.Ended:
		f.Step = nil
	case e.Step != nil:
		f.Step = e.Step
	}
}

func (f *Facts) note(n targets.TaskNote) {
	t, r := f.Task(n.Task), f.Runner(n.Runner)
	switch {
	case n.Step > 0:
		t.Steps[n.Step]++
	case n.End:
		t.Finished++
		r.Finished++
	default:
		t.Started++
		r.Started++
	}
}

// Runner returns what is known of a runner, if only that it has no process yet.
func (f *Facts) Runner(name string) *Runner {
	if f.Runners[name] == nil {
		f.Runners[name] = &Runner{}
	}
	return f.Runners[name]
}

// Task returns what is known of a task.
func (f *Facts) Task(id string) *Task {
	if f.Tasks[id] == nil {
		f.Tasks[id] = &Task{Steps: make(map[int]int)}
	}
	return f.Tasks[id]
}

// Counts adds up the attempts of the tasks of a group, of all tasks if the group is
// empty, and the steps that they have done, each once.
func (f *Facts) Counts(group string) (started, finished, steps int) {
	for id, t := range f.Tasks {
		if InGroup(id, group) {
			started += t.Started
			finished += t.Finished
			steps += len(t.Steps)
		}
	}
	return started, finished, steps
}

// Queued is how many tasks of a group are in one of the states, where the queue was
// last read.
func (f *Facts) Queued(group string, states ...api.TaskState) (n int) {
	for _, state := range states {
		for _, id := range f.Queue.In(state) {
			if InGroup(id, group) {
				n++
			}
		}
	}
	return n
}

// InGroup says whether a task belongs to a group; the tasks of a group are
// named <group>-<number>.
func InGroup(id, group string) bool {
	if group == "" {
		return true
	}
	number, ok := strings.CutPrefix(id, group+"-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}
