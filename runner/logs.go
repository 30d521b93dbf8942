package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Logs is the logs command.
type Logs struct {
	Place `embed:""`

	ID      string `arg:"" help:"The task."`
	Follow  bool   `short:"f" help:"Go on until the task ends, over all attempts from this one on; waits for its start."`
	Attempt int    `placeholder:"N" help:"Which attempt; default: the last one."`
}

// Run prints the output of an attempt where it came from: stdout and stderr.
func (l *Logs) Run(ctx context.Context, stdio stdio) error {
	return l.look(func(store queue.Store) error {
		if l.Follow {
			_, err := follow(ctx, store, stdio, l.ID, l.Attempt)
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

// follow prints the output of a task from an attempt on, 0 for the last one, until it
// has ended.
func follow(ctx context.Context, store queue.Store, stdio stdio, id string, attempt int) (end api.TaskStatus, err error) {
	var f *follower
	said := ""
	for {
		asked := time.Now()
		tasks, err := store.List(ctx, id) // before what it prints: nothing comes after an end
		if err != nil {
			return end, err
		}
		now := tasks[0]
		if f == nil && now.Starts >= max(attempt, 1) {
			f = newFollower(store, stdio, id, cmp.Or(attempt, now.Starts))
		}
		if f != nil {
			ended, err := f.next(ctx)
			if err != nil {
				return end, err
			}
			if ended || now.Starts > f.number { // or its runner died
				if f.number < now.Starts {
					f = newFollower(store, stdio, id, f.number+1)
					continue
				}
			}
		}
		if now.State.Ended() {
			return now, nil
		}
		if reason := why(now, offersOf(ctx, store)); now.State == api.TaskWaiting && reason != said {
			fmt.Fprintf(stdio.Err, "runner: task %s waits: %s\n", id, reason)
			said = reason
		}
		if !await(ctx, stdio.Out, asked) {
			return end, ctx.Err()
		}
	}
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

// next prints what has come since, and says whether the attempt has ended.
func (f *follower) next(ctx context.Context) (ended bool, err error) {
	results, err := f.store.Results(ctx, f.id)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(results, func(r api.Result) bool { return r.Attempt == f.number })
	files, err := f.store.Files(ctx, f.id, f.number)
	if errors.Is(err, fs.ErrNotExist) {
		return i >= 0, nil // it died with its runner, or is on its way to its place
	}
	if err != nil {
		return false, err
	}
	defer files.Close()
	if i < 0 {
		return false, errors.Join(f.streams[0].live(files), f.streams[1].live(files))
	}
	r := results[i]
	return true, errors.Join(f.streams[0].rest(files, r.StdoutLeftOut), f.streams[1].rest(files, r.StderrLeftOut))
}

// live prints what there is of an output that is still written.
func (s *stream) live(files fs.FS) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	parts := map[int64]string{}
	for _, e := range entries {
		if head, between, ok := api.ParseOutputPart(s.file, e.Name()); ok {
			s.head, parts[head+between] = head, e.Name()
		}
	}
	begin := int64(-1)
	if len(parts) > 0 {
		begin = s.head // behind that, it may be put together just now
	}
	if err := s.print(files, s.file, 0, begin); err != nil {
		return err
	}
	for _, at := range slices.Sorted(maps.Keys(parts)) {
		if s.pos < at {
			if _, err := io.WriteString(s.out, api.OutputMark(at-s.pos)); err != nil {
				return err
			}
			s.pos = at
		}
		if err := s.print(files, parts[at], at, -1); err != nil {
			return err
		}
	}
	return nil
}

// rest prints what is left of an output that is complete, of which so much is left
// out behind the head.
func (s *stream) rest(files fs.FS, out int64) error {
	if s.head == 0 || s.pos <= s.head || out == 0 {
		return s.print(files, s.file, 0, -1)
	}
	if s.pos < s.head+out {
		if _, err := io.WriteString(s.out, api.OutputMark(s.head+out-s.pos)); err != nil {
			return err
		}
		s.pos = s.head + out
	}
	return s.print(files, s.file, out-int64(len(api.OutputMark(out))), -1)
}

// print prints a file that begins at a position of the output, from where the last
// one has stopped, up to end; -1 is all of it.
func (s *stream) print(files fs.FS, name string, at, end int64) error {
	f, err := files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was put together with the others meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if skip := s.pos - at; skip > 0 {
		if seeker, ok := f.(io.Seeker); ok {
			_, err = seeker.Seek(skip, io.SeekStart)
		} else {
			_, err = io.CopyN(io.Discard, f, skip)
		}
		if err != nil {
			return nil // there is nothing new
		}
	}
	var in io.Reader = f
	if end >= 0 {
		in = io.LimitReader(f, max(0, end-s.pos))
	}
	n, err := io.Copy(s.out, in)
	s.pos += n
	return err
}
