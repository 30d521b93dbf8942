package place

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// script is what a task runs.
//
//go:embed task.sh
var script string

// TaskCommand is the command line of a task of the tests.
func (p *Place) TaskCommand(spec targets.TaskSpec) (command string, args []string, err error) {
	hold := "" // nothing
	if spec.Hold {
		if hold, err = p.Ground.Hold(spec.Group); err != nil {
			return "", nil, fmt.Errorf("hold tasks of group %s: %w", spec.Group, err)
		}
	}
	status, term := "0", ""
	if spec.Fail {
		status = "1"
	}
	if spec.IgnoreTerm {
		term = "ignore"
	}
	return "/bin/sh", []string{"-c", script, "task", p.Layout.Journal, hold, status, term,
		fmt.Sprint(spec.Lasts.Seconds()), fmt.Sprint(spec.Steps)}, nil
}

// Journal calls each for every note of a task until ctx ends.
func (p *Place) Journal(ctx context.Context, each func(targets.TaskNote)) (err error) {
	record := p.Evidence().Record("journal")
	defer func() { err = errors.Join(err, record.Close()) }()
	return p.Ground.Notes(ctx, func(line string) error {
		fmt.Fprintln(record, line)
		note, err := parseNote(line)
		if err == nil {
			each(note)
		}
		return err
	})
}

// parseNote reads a line that task.sh wrote.
func parseNote(line string) (targets.TaskNote, error) {
	fields := strings.Split(line, "\t")
	step, stepErr := strconv.Atoi(fields[0])
	if len(fields) != 5 || (fields[0] != "start" && fields[0] != "end" && (stepErr != nil || step < 1)) || fields[1] == "" {
		return targets.TaskNote{}, fmt.Errorf("the journal has the line %s; it must be start, a step or end, task, attempt, runner and GPUs, with tabs between", api.Excerpt(line))
	}
	attempt, err := strconv.Atoi(fields[2])
	if err != nil || attempt < 1 {
		return targets.TaskNote{}, fmt.Errorf("the journal has the line %s, whose attempt must be a positive number", api.Excerpt(line))
	}
	return targets.TaskNote{End: fields[0] == "end", Step: step, Task: fields[1], Attempt: attempt, Runner: fields[3], GPUs: fields[4]}, nil
}
