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
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// Submit is the submit command.
type Submit struct {
	Place `embed:""`

	Files []string `arg:"" name:"file" default:"-" help:"Task documents, JSON or YAML, several in a file with --- between them; - is the standard input."`
}

// Run reads and checks all documents before it submits the first, and prints
// the id of each task that is in the queue.
func (s *Submit) Run(stdio stdio) (err error) {
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
	seen := make(map[string]bool)
	for _, t := range tasks {
		if t.ID != "" && seen[t.ID] {
			return fmt.Errorf("nothing was submitted:\nid: %s is there twice; must be different for each task", api.Excerpt(t.ID))
		}
		seen[t.ID] = true
	}
	if s.Queue != "" {
		return s.toServer(tasks, stdio.Out)
	}
	_, missing := os.Stat(s.Spool)
	queue, err := spool.Open(s.Spool, spool.Options{})
	if err != nil {
		return err
	}
	if errors.Is(missing, fs.ErrNotExist) {
		fmt.Fprintf(stdio.Err, "runner: there was no queue in %s, so a new one was made; is it the one that the runners use?\n", s.Spool)
	}
	defer func() { err = errors.Join(err, queue.Close()) }()
	for _, t := range tasks {
		id, err := queue.Submit(t)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(stdio.Out, id); err != nil {
			return err
		}
	}
	return nil
}

// toServer prints the ids of all that are in the queue, those of before as well.
func (s *Submit) toServer(tasks []*api.Task, out io.Writer) (err error) {
	q, err := postgres.Open(s.Queue, postgres.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	done, err := q.Submit(context.Background(), tasks)
	for _, t := range done {
		fmt.Fprintln(out, t.ID)
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
