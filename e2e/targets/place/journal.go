package place

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

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

// Journal calls each for every note of a task until ctx ends. When the program
// that reads the journal ends before that, as with its connection, another one
// reads on where it was.
func (p *Place) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	const pause = 200 * time.Millisecond
	reader := &reader{}
	reader.Each = func(line string) error {
		note, err := parseNote(line)
		if reader.err = err; err == nil {
			each(note)
		}
		return err
	}
	_ = wait.PollUntilContextCancel(ctx, pause, true, func(ctx context.Context) (bool, error) {
		_ = p.Ground.Run(ctx, nil, reader, "tail", "-c", fmt.Sprintf("+%d", reader.taken+1), "-f", p.Layout.Journal)
		return reader.err != nil, nil
	})
	return reader.err
}

// reader takes a journal as it grows.
type reader struct {
	Lines
	taken int64 // bytes, and so where to read on
	err   error // what is wrong with the journal
}

// Write takes the next piece.
func (r *reader) Write(data []byte) (int, error) {
	r.taken += int64(len(data))
	return r.Lines.Write(data)
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
