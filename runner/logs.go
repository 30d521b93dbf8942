package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/tree"
)

type Logs struct {
	Place `embed:""`

	ID      string `arg:"" help:"The task."`
	Follow  bool   `short:"f" help:"Go on until the task ends, over all attempts from this one on; waits for its start."`
	Attempt count  `placeholder:"N" help:"Which attempt; default: the last one."`
}

// Run prints the output of an attempt where it came from: stdout and stderr.
func (l *Logs) Run(ctx context.Context, stdio stdio) error {
	return l.with(toLook, func(store connection) error {
		if l.Follow {
			_, _, err := follow(whileRead(ctx, stdio.Out), store, stdio, l.ID, int(l.Attempt))
			return err
		}
		number, err := attemptOf(ctx, store, l.ID, l.Attempt)
		if err != nil {
			return err
		}
		_, err = newFollower(store, stdio, l.ID, number).next(ctx)
		return err
	})
}

// attemptOf returns the number of an attempt, the last one if none is named.
func attemptOf(ctx context.Context, store queue.Store, id string, named count) (int, error) {
	tasks, err := store.List(ctx, id)
	if err != nil {
		return 0, err
	}
	switch last := tasks[0].Starts; {
	case last == 0:
		return 0, fmt.Errorf("task %s has not started yet", api.Excerpt(id))
	case int(named) > last:
		return 0, fmt.Errorf("--attempt is %d; must be 1 to %d", named, last)
	default:
		return cmp.Or(int(named), last), nil
	}
}

// resultOf returns that of an attempt, nil if it has none.
func resultOf(ctx context.Context, store queue.Store, id string, attempt int) (*api.Result, error) {
	results, err := store.Results(ctx, id)
	for _, r := range results {
		if r.Attempt == attempt {
			return &r, err
		}
	}
	return nil, err
}

// follow prints the output of a task from an attempt on, 0 for the last one, until it
// has ended. It returns what became of the task, and the result of its last attempt.
func follow(ctx context.Context, store connection, stdio stdio, id string, attempt int) (
	now api.TaskStatus, end *api.Result, err error,
) {
	const calm = 2 * time.Second // most tasks wait for less, and nobody needs to know why
	var f *follower
	said, calmUntil := "", time.Now().Add(calm)
	err = poll(ctx, stdio.Err, away, func() (bool, error) {
		tasks, err := store.List(ctx, id) // before what it prints: nothing comes after an end
		if err != nil {
			return false, err
		}
		now = tasks[0]
		if f == nil && now.Starts >= max(attempt, 1) {
			f = newFollower(store, stdio, id, cmp.Or(attempt, now.Starts))
		}
		for f != nil {
			if end, err = f.next(ctx); err != nil {
				return false, err
			}
			if f.number >= now.Starts {
				break
			}
			f = newFollower(store, stdio, id, f.number+1)
		}
		if now.State.Ended() || expired(now) {
			return true, nil
		}
		if now.State == api.TaskWaiting && time.Now().After(calmUntil) {
			offers, _ := store.Offers(ctx)
			if reason := why(now, offers); reason != said {
				fmt.Fprintf(stdio.Err, "runner: task %s waits: %s\n", id, reason)
				said = reason
			}
		}
		return false, nil
	})
	return now, end, err
}

// follower prints what an attempt prints, once.
type follower struct {
	store   queue.Store
	id      string
	number  int
	streams [2]stream
}

// stream is one output, as far as it was printed.
type stream struct {
	file string
	out  io.Writer
	pos  int64 // of all that the task has printed
	head int64 // the size of what is kept of its begin, once that is known
}

func newFollower(store queue.Store, stdio stdio, id string, number int) *follower {
	return &follower{store: store, id: id, number: number,
		streams: [2]stream{{file: api.StdoutFile, out: stdio.Out}, {file: api.StderrFile, out: stdio.Err}}}
}

// next prints what has come since, and returns the result of the attempt if it has one.
func (f *follower) next(ctx context.Context) (*api.Result, error) {
	result, err := resultOf(ctx, f.store, f.id, f.number)
	if err != nil {
		return nil, err
	}
	files, err := f.store.Files(ctx, f.id, f.number)
	if errors.Is(err, fs.ErrNotExist) {
		return result, nil // it died with its runner, or is on its way to its place
	}
	if err != nil {
		return nil, err
	}
	defer files.Close()
	if result == nil {
		return nil, errors.Join(f.streams[0].live(files), f.streams[1].live(files))
	}
	return result, errors.Join(f.streams[0].rest(files, result.StdoutLeftOut), f.streams[1].rest(files, result.StderrLeftOut))
}

// live prints what there is of an output that is still written.
func (s *stream) live(files fs.FS) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	parts := map[int64]string{}
	begin := int64(math.MaxInt64)
	for _, e := range entries {
		if head, between, ok := api.ParseOutputPart(s.file, e.Name()); ok {
			parts[head+between] = e.Name()
			s.head, begin = head, head // behind that, the file may be put together just now
		}
	}
	err = s.print(files, s.file, 0, 0, begin)
	for _, at := range slices.Sorted(maps.Keys(parts)) {
		err = errors.Join(err, s.print(files, parts[at], at, at, math.MaxInt64))
	}
	return err
}

// rest prints what is left of an output that is complete, of which so much is left
// out behind the head.
func (s *stream) rest(files fs.FS, out int64) error {
	switch {
	case out == 0: // but of an attempt that died with its runner the parts are there still
		return s.live(files)
	case s.head == 0 || s.pos <= s.head: // it can be printed as it is, with the mark
		return s.print(files, s.file, 0, 0, math.MaxInt64)
	}
	return s.print(files, s.file, s.head+out, out-int64(len(api.OutputMark(out))), math.MaxInt64)
}

// print prints a file whose first byte is at a position of the output, of that what
// comes after what was printed, and before end. What is missing before from is marked.
func (s *stream) print(files fs.FS, name string, from, first, end int64) error {
	if s.pos < from {
		if _, err := io.WriteString(s.out, api.OutputMark(from-s.pos)); err != nil {
			return err
		}
		s.pos = from
	}
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was put together with the others meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.(io.Seeker).Seek(s.pos-first, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(s.out, io.LimitReader(f, end-s.pos))
	s.pos += n
	return err
}

const resultFile = "result.json"

type Get struct {
	Place `embed:""`

	ID      string `arg:"" help:"The task."`
	Dir     string `arg:"" type:"path" help:"Where to put its output, outputs and checkpoint; must not exist yet, or be empty."`
	Attempt count  `placeholder:"N" help:"Which attempt; default: the last one."`
}

// Run copies what an attempt has left, and its result where that is no file of the queue.
func (g *Get) Run(ctx context.Context, stdio stdio) error {
	return g.with(toLook, func(store connection) error {
		number, err := attemptOf(ctx, store, g.ID, g.Attempt)
		if err != nil {
			return err
		}
		files, err := store.Files(ctx, g.ID, number)
		if err != nil {
			return err
		}
		defer files.Close()
		there, err := os.ReadDir(g.Dir)
		if len(there) > 0 {
			err = fmt.Errorf("%s has other files, as %s", g.Dir, there[0].Name())
		} else if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = tree.Copy(g.Dir, files)
		}
		if err != nil {
			return fmt.Errorf("copy attempt %d: %w; name a directory that does not exist yet, or is empty", number, err)
		}
		result, err := resultOf(ctx, store, g.ID, number)
		if _, missing := fs.Stat(files, resultFile); missing != nil && result != nil {
			text, _ := json.MarshalIndent(result, "", "  ")
			err = os.WriteFile(filepath.Join(g.Dir, resultFile), append(text, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
		if result != nil && result.Outcome == api.Succeeded && result.Reason != "" { // what of it is not kept
			fmt.Fprintf(stdio.Err, "runner: attempt %d of %s succeeded, but %s\n", number, g.ID, result.Reason)
		}
		_, err = fmt.Fprintf(stdio.Out, "attempt %d of %s is in %s\n", number, g.ID, g.Dir)
		return err
	})
}
