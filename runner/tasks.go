package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// Tasks is the tasks command.
type Tasks struct {
	Place `embed:""`

	IDs    []string `arg:"" optional:"" name:"id" help:"Tasks to show, with their attempts; all without one."`
	State  []string `enum:"waiting,running,finished,failed,dead,cancelled" placeholder:"STATE" help:"Show only those: ${enum}. Failed are those that have failed and have attempts left."`
	Runner string   `placeholder:"NAME" help:"Show only those that this runner has."`
	Output string   `short:"o" enum:"table,wide,json,yaml" default:"table" help:"How to print: ${enum}."`
	Watch  bool     `short:"w" help:"Print anew at each change, until all tasks that were named have ended; as JSON it is one line each."`
}

// taskView is a task as its owner sees it.
type taskView struct {
	api.TaskStatus
	Why      string       `json:"why,omitempty"`      // it waits, or how it ended
	Attempts []api.Result `json:"attempts,omitempty"` // where tasks are named
}

// Run shows what the queue knows.
func (t *Tasks) Run(ctx context.Context, stdio stdio) error {
	return t.look(func(store queue.Store) error {
		var before []taskView
		for first := true; ; first = false {
			asked := time.Now()
			views, err := t.views(ctx, store)
			if err != nil && !errors.Is(err, queue.ErrUnknown) {
				return err
			}
			if first || !reflect.DeepEqual(views, before) {
				if err := t.print(stdio.Out, views, first); err != nil {
					return err
				}
			}
			before = views
			unfinished := func(v taskView) bool { return !v.State.Ended() }
			if err != nil || !t.Watch || len(t.IDs) > 0 && !slices.ContainsFunc(views, unfinished) {
				return err
			}
			if !await(ctx, stdio.Out, asked) {
				return ctx.Err()
			}
		}
	})
}

// views asks for the tasks that are wanted.
func (t *Tasks) views(ctx context.Context, store queue.Store) ([]taskView, error) {
	tasks, unknown := store.List(ctx, t.IDs...)
	if unknown != nil && !errors.Is(unknown, queue.ErrUnknown) {
		return nil, unknown
	}
	offers := offersOf(ctx, store)
	views := []taskView{}
	for _, task := range tasks {
		if !t.wants(task) {
			continue
		}
		v := taskView{TaskStatus: task, Why: why(task, offers)}
		if len(t.IDs) > 0 {
			results, err := store.Results(ctx, task.ID)
			if err != nil {
				return nil, err
			}
			v.Attempts = results
		}
		views = append(views, v)
	}
	return views, unknown
}

func (t *Tasks) wants(s api.TaskStatus) bool {
	failed := !s.State.Ended() && s.Spent > 0
	named := slices.Contains(t.State, strings.ToLower(string(s.State))) || failed && slices.Contains(t.State, "failed")
	return (len(t.State) == 0 || named) && (t.Runner == "" || t.Runner == s.Runner)
}

func (t *Tasks) print(out io.Writer, views []taskView, first bool) error {
	shown := map[string][]taskView{"tasks": views}
	switch t.Output {
	case "json":
		return json.NewEncoder(out).Encode(shown)
	case "yaml":
		text, err := yaml.Marshal(shown)
		if err != nil {
			return err
		}
		if t.Watch {
			text = append([]byte("---\n"), text...)
		}
		_, err = out.Write(text)
		return err
	}
	if !first {
		fmt.Fprintln(out)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	wide := func(columns ...string) string {
		if t.Output != "wide" {
			return ""
		}
		return strings.Join(columns, "\t") + "\t"
	}
	fmt.Fprintf(w, "ID\tSTATE\tATTEMPT\tRUNNER\tSINCE\t%sWHY\n", wide("PRIORITY", "GPUS", "COMMAND"))
	for _, v := range views {
		priority, command := "-", "-" // a list of all knows no documents
		if task := v.Task; task != nil {
			priority, command = fmt.Sprint(task.Priority), strings.Join(append([]string{task.Command}, task.Args...), " ")
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s%s\n", v.ID, v.State, v.Starts, dash(v.Runner), age(v.Since),
			wide(priority, dash(strings.Join(v.GPUs, " ")), plain(command)), plain(v.Why))
		for _, r := range v.Attempts {
			fmt.Fprintf(w, "  attempt %d\t%s\t-\t%s\t%s\t%s%s\n", r.Attempt, r.Outcome, r.Runner, age(r.Finished),
				wide("-", dash(strings.Join(r.GPUs, " ")), "-"), plain(fmt.Sprintf("%s, took %s", r.Why(), r.Finished.Sub(r.Started).Round(time.Millisecond))))
		}
	}
	return w.Flush()
}

// dash stands where there is nothing, so that columns can be counted.
func dash(text string) string { return cmp.Or(text, "-") }

// plain shows what came from outside on one line of a terminal.
func plain(text string) string {
	return dash(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}

// age says how long ago something was.
func age(t time.Time) string {
	d := time.Since(t)
	if t.IsZero() || d < 0 { // a pause ends in the future
		return "-"
	}
	if d < 48*time.Hour {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// await waits until a queue may be asked again: soon, unless the last time, which
// began at asked, was long. It returns false when ctx ends, or nobody reads out any
// more.
func await(ctx context.Context, out io.Writer, asked time.Time) bool {
	const soon, share = 500 * time.Millisecond, 10
	if f, ok := out.(*os.File); ok {
		poll := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(poll, 0); err == nil && n > 0 && poll[0].Revents&unix.POLLERR != 0 {
			return false
		}
	}
	select {
	case <-time.After(max(soon, share*time.Since(asked))):
		return true
	case <-ctx.Done():
		return false
	}
}
