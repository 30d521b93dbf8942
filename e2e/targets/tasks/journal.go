// Package tasks is what the tasks of the tests do and tell: their script, the
// journal that they write, and how they get into the queue.
package tasks

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// script is what a task runs.
//
//go:embed task.sh
var script string

// Hold is what a held task waits for. The zero value lets it go on.
type Hold struct{ kind, path string }

// Lock makes a task wait until nobody has an exclusive flock on a file.
func Lock(path string) Hold { return Hold{"lock", path} }

// File makes a task wait until a file is there.
func File(path string) Hold { return Hold{"file", path} }

// Command is the command line of a task that writes to journal and waits for
// hold.
func Command(journal string, hold Hold, spec targets.TaskSpec) (command string, args []string) {
	status, term := "0", ""
	if spec.Fail {
		status = "1"
	}
	if spec.IgnoreTerm {
		term = "ignore"
	}
	return "/bin/sh", []string{"-c", script, "task", journal, hold.kind, hold.path, status, term}
}

// FollowJournal calls each for every note in the file path, which exists, until
// ctx ends. A line that is still being written waits for its end.
func FollowJournal(ctx context.Context, path string, each func(targets.TaskNote)) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch journal: %w", err)
	}
	defer watcher.Close()
	// Watch before the first reading, so that no write falls between them.
	if err := watcher.Add(path); err != nil {
		return fmt.Errorf("watch journal: %w", err)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open journal: %w", err)
	}
	defer file.Close()
	reader := &Reader{Each: each}
	for {
		if _, err := io.Copy(reader, file); err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		select {
		case <-watcher.Events:
		case err := <-watcher.Errors:
			// Lost events do no harm: the next reading finds everything.
			if err != nil && !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch journal: %w", err)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Reader takes a journal as it grows, in pieces of any size.
type Reader struct {
	// Each is called for every note.
	Each func(targets.TaskNote)

	mu      sync.Mutex // a connection may still write when its reader has given up
	partial []byte     // the beginning of a line without its end
	taken   int64
	err     error
}

var _ io.Writer = (*Reader)(nil)

// Write takes the next piece.
func (r *Reader) Write(data []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	r.taken += int64(len(data))
	r.partial = append(r.partial, data...)
	for {
		line, rest, found := bytes.Cut(r.partial, []byte("\n"))
		if !found {
			return len(data), nil
		}
		note, err := ParseNote(string(line))
		if err != nil {
			r.err = err
			return 0, err
		}
		r.partial = rest
		r.Each(note)
	}
}

// Taken is how many bytes of the journal it has, and so where to read on.
func (r *Reader) Taken() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// Err is what was wrong with the journal.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// ParseNote reads a line that task.sh wrote.
func ParseNote(line string) (targets.TaskNote, error) {
	fields := strings.Split(line, "\t")
	if len(fields) != 5 || (fields[0] != "start" && fields[0] != "end") || fields[1] == "" {
		return targets.TaskNote{}, fmt.Errorf("journal line is %s, allowed is start or end, task, attempt, runner, GPUs", api.Excerpt(line))
	}
	attempt, err := strconv.Atoi(fields[2])
	if err != nil || attempt < 1 {
		return targets.TaskNote{}, fmt.Errorf("journal line is %s, its attempt %s is no positive number", api.Excerpt(line), api.Excerpt(fields[2]))
	}
	return targets.TaskNote{End: fields[0] == "end", Task: fields[1], Attempt: attempt, Runner: fields[3], GPUs: fields[4]}, nil
}
