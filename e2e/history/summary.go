package history

import (
	"strings"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Summary is what the entries so far add up to. It is a pure fold: the same
// entries always give the same summary.
type Summary struct {
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

// NewSummary returns the summary of an empty history.
func NewSummary() *Summary {
	return &Summary{Runners: make(map[string]*Runner), Maps: make(map[string]Map), Tasks: make(map[string]*Task)}
}

// Sum returns what entries add up to.
func Sum(entries []Entry) *Summary {
	s := NewSummary()
	for _, e := range entries {
		s.Apply(e)
	}
	return s
}

// Apply takes one more entry into account.
func (s *Summary) Apply(e Entry) {
	s.Entries++
	switch {
	case e.Start:
		r := s.Runner(e.Runner)
		r.Processes, r.Status, r.Exit, r.Transitions, r.Answers = e.Process, nil, nil, 0, make(map[string]Entry)
	case e.Status != nil:
		r := s.Runner(e.Runner)
		if e.Process != r.Processes {
			return // a late word of a process that was replaced
		}
		if r.Status != nil && r.Status.Phase != e.Status.Phase {
			r.Transitions++
		}
		r.Status = e.Status
	case e.Exit != nil:
		if r := s.Runner(e.Runner); e.Process == r.Processes {
			r.Exit = e.Exit
		}
	case e.Log != "":
		r := s.Runner(e.Runner)
		r.Log = append(r.Log, e.Log)
	case e.Map != nil:
		s.Maps[e.Map.Namespace+"/"+e.Map.Name] = *e.Map
	case e.Note != nil:
		s.note(*e.Note)
	case e.Queue != nil:
		s.Queue, s.QueueTrouble = e.Queue, ""
	case e.Answer != nil && e.Answer.Path == "":
		s.QueueTrouble = e.Answer.Error
	case e.Answer != nil:
		s.Runner(e.Runner).Answers[e.Answer.Path] = e
	case e.Trouble != "":
		s.Troubles = append(s.Troubles, e.Trouble)
	case e.Step != nil && e.Step.Ended:
		s.Step = nil
	case e.Step != nil:
		s.Step = e.Step
	}
}

func (s *Summary) note(n targets.TaskNote) {
	t, r := s.Task(n.Task), s.Runner(n.Runner)
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
func (s *Summary) Runner(name string) *Runner {
	if s.Runners[name] == nil {
		s.Runners[name] = &Runner{}
	}
	return s.Runners[name]
}

// Task returns what is known of a task.
func (s *Summary) Task(id string) *Task {
	if s.Tasks[id] == nil {
		s.Tasks[id] = &Task{Steps: make(map[int]int)}
	}
	return s.Tasks[id]
}

// Counts adds up the attempts of the tasks of a group, of all tasks if the group is
// empty, and the steps that they have done, each once.
func (s *Summary) Counts(group string) (started, finished, steps int) {
	for id, t := range s.Tasks {
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
func (s *Summary) Queued(group string, states ...api.TaskState) (n int) {
	for _, state := range states {
		for _, id := range s.Queue.In(state) {
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
