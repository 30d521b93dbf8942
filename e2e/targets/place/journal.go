package place

import (
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// script is what a task runs.
//
//go:embed task.sh
var script string

// TaskCommand is the command line of a task of the tests.
func (p *Place) TaskCommand(s scenario.Submit) (command string, args []string, err error) {
	hold := "" // nothing
	if s.Hold {
		if hold, err = p.Ground.Hold(string(s.Group)); err != nil {
			return "", nil, fmt.Errorf("hold tasks of group %s: %w", s.Group, err)
		}
	}
	return "/bin/sh", []string{"-c", script, "task", p.Layout.Journal, hold, fmt.Sprint(s.Fail), fmt.Sprint(s.IgnoreTerm),
		fmt.Sprint(time.Duration(s.Lasts).Seconds()), fmt.Sprint(s.Steps)}, nil
}

// noteLine is a line that task.sh writes: start, a step or end, task, attempt, runner, GPUs.
var noteLine = regexp.MustCompile(`^(start|end|[1-9][0-9]*)\t([^\t]+)\t([1-9][0-9]*)\t([^\t]*)\t([^\t]*)$`)

// Note passes on what a line of the journal says.
func Note(line string, each func(targets.TaskNote)) error {
	field := noteLine.FindStringSubmatch(line)
	if field == nil {
		return fmt.Errorf("the journal has the line %s; it must be start, a step or end, task, attempt, runner and GPUs, with tabs between",
			api.Excerpt(line))
	}
	step, _ := strconv.Atoi(field[1]) // 0 at both ends
	attempt, _ := strconv.Atoi(field[3])
	each(targets.TaskNote{End: field[1] == "end", Step: step, Task: field[2], Attempt: attempt, Runner: field[4], GPUs: field[5]})
	return nil
}
