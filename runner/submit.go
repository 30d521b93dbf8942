package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Submit is the submit command.
type Submit struct {
	Place `embed:""`

	Files []string `arg:"" name:"file" default:"-" help:"Task documents, JSON or YAML, several in a file with --- between them; - is the standard input."`
}

// Run reads and checks all documents before it submits the first, and prints
// the id of each task that is in the queue.
func (s *Submit) Run(ctx context.Context, stdio stdio) (err error) {
	var tasks []*api.Task
	var problems []error
	for _, file := range s.Files {
		read, err := readTasks(file, stdio.In)
		tasks = append(tasks, read...)
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("nothing was submitted:\n%w", err)
	}
	if err := queue.Check(tasks); err != nil {
		return fmt.Errorf("nothing was submitted:\n%w", err)
	}
	_, missing := os.Stat(s.Spool)
	store, err := s.forOwner()
	if err != nil {
		return err
	}
	if s.Spool != "" && errors.Is(missing, fs.ErrNotExist) {
		fmt.Fprintf(stdio.Err, "runner: there was no queue in %s, so a new one was made; is it the one that the runners use?\n", s.Spool)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	done, err := store.Submit(ctx, tasks)
	for _, d := range done {
		if d.Before != "" {
			fmt.Fprintf(stdio.Err, "runner: %s was submitted before, and is %s\n", d.ID, d.Before)
		}
		if _, err := fmt.Fprintln(stdio.Out, d.ID); err != nil {
			return err
		}
	}
	if err != nil && len(tasks) > 1 {
		err = fmt.Errorf("%d of %d tasks were submitted; submit the same again for the rest: %w", len(done), len(tasks), err)
	}
	return err
}

// separator is a line between documents, comments what is none: both as editors,
// people who comment and other systems write them.
var (
	separator = regexp.MustCompile(`(?m)^---[ \t]*(?:#.*)?\r?(?:\n|$)`)
	comments  = regexp.MustCompile(`(?m)^[ \t\x{feff}]*(?:#.*)?$`)
)

// readTasks reads the documents of one file; errors name the file and which
// document of it.
func readTasks(file string, stdin io.Reader) ([]*api.Task, error) {
	in, name := stdin, "standard input"
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read task documents: %w", err)
		}
		defer f.Close()
		in, name = f, file
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var tasks []*api.Task
	var problems []error
	for n, document := range separator.Split(string(text), -1) {
		if strings.TrimSpace(comments.ReplaceAllString(document, "")) == "" {
			continue
		}
		t, err := api.ParseTask([]byte(document))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s, document %d: %w", name, n+1, err))
			continue
		}
		tasks = append(tasks, t)
	}
	if len(tasks) == 0 && len(problems) == 0 {
		return nil, fmt.Errorf("%s holds no task document", name)
	}
	return tasks, errors.Join(problems...)
}
