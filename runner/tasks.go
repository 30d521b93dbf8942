package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/runner/api"
)

type Tasks struct {
	Place    `embed:""`
	Printing `embed:"" set:"watch=Print anew at each change, until all tasks that were named have ended"`

	IDs    []string `arg:"" optional:"" name:"id" help:"Tasks to show, with their attempts; all without one."`
	State  []string `enum:"waiting,running,finished,failed,dead,cancelled" placeholder:"STATE" help:"Show only those: ${enum}. Failed are those that have failed and have attempts left."`
	Runner string   `placeholder:"NAME" help:"Show only those that this runner has."`
}

// taskView is a task as its owner sees it.
type taskView struct {
	api.TaskStatus
	Why      string       `json:"why,omitempty"`      // it waits, or how it ended
	Attempts []api.Result `json:"attempts,omitempty"` // where tasks are named
}

type taskViews struct {
	Tasks []taskView `json:"tasks"`
}

// Run shows what the queue knows; to who watches, until the tasks that are named have ended.
func (t *Tasks) Run(ctx context.Context, stdio stdio) error {
	if t.Watch {
		ctx = whileRead(ctx, stdio.Out)
	}
	unfinished := func(v taskView) bool { return !v.State.Ended() }
	return t.with(toLook, func(store connection) error {
		passes := func(err error) bool { return t.Watch && away(err) }
		return poll(ctx, stdio.Err, passes, func() (bool, error) {
			views, err := t.views(ctx, store)
			if err != nil && len(views.Tasks) == 0 {
				return false, err
			}
			last, err := t.show(stdio.Out, views, err)
			return last || len(t.IDs) > 0 && !slices.ContainsFunc(views.Tasks, unfinished), err
		})
	})
}

// views asks for the tasks that are wanted.
func (t *Tasks) views(ctx context.Context, store connection) (taskViews, error) {
	views := taskViews{[]taskView{}}
	tasks, unknown := store.List(ctx, t.IDs...)
	tasks = slices.DeleteFunc(tasks, func(s api.TaskStatus) bool { return !t.wants(s) })
	if len(t.IDs) == 0 && len(tasks) > 0 && t.Output != "table" { // that of all may lack the documents
		var ids []string
		for _, task := range tasks {
			ids = append(ids, task.ID)
		}
		var err error
		if tasks, err = store.List(ctx, ids...); away(err) { // others may have gone meanwhile
			return taskViews{}, err
		}
	}
	offers, _ := store.Offers(ctx)
	for _, task := range tasks {
		v := taskView{TaskStatus: task, Why: why(task, offers)}
		if len(t.IDs) > 0 {
			results, err := store.Results(ctx, task.ID)
			if err != nil {
				return taskViews{}, err
			}
			v.Attempts = results
		}
		views.Tasks = append(views.Tasks, v)
	}
	return views, unknown
}

func (t *Tasks) wants(s api.TaskStatus) bool {
	failed := !s.State.Ended() && s.Spent > 0
	named := slices.Contains(t.State, strings.ToLower(string(s.State))) || failed && slices.Contains(t.State, "failed")
	return (len(t.State) == 0 || named) && (t.Runner == "" || t.Runner == s.Runner)
}

func (v taskViews) rows(t table) {
	t.row("ID", "STATE", "ATTEMPT", "RUNNER", "SINCE", t.wide("PRIORITY", "GPUS", "COMMAND"), "WHY")
	for _, v := range v.Tasks {
		priority, command := "", ""
		if task := v.Task; task != nil { // or it was no valid one
			priority = fmt.Sprint(task.Priority)
			command = strings.Join(append([]string{task.Command}, task.Args...), " ")
		}
		if begin := fmt.Sprintf("%.80s", command); begin != command { // a script would make all rows as long
			command = begin + "…"
		}
		t.row(v.ID, v.State, v.Starts, v.Runner, age(v.Since), t.wide(priority, strings.Join(v.GPUs, " "), command), v.Why)
		for _, r := range v.Attempts {
			t.row(fmt.Sprintf("  attempt %d", r.Attempt), r.Outcome, "", r.Runner, age(r.Finished), t.wide("", strings.Join(r.GPUs, " "), ""),
				fmt.Sprintf("%s, took %s", r.Why(), r.Finished.Sub(r.Started).Round(time.Millisecond)))
		}
	}
}

// why says why a task is not getting on, or how it ended. No offers at all, not even an
// empty list of them, are not known.
func why(t api.TaskStatus, offers []api.Offer) string {
	if t.State != api.TaskWaiting {
		return t.Reason
	}
	if expired(t) {
		return fmt.Sprintf("it has expired, at %s, and is not started any more", t.Task.Expires.Local().Format(time.DateTime))
	}
	if time.Now().Before(t.NotBefore) {
		return fmt.Sprintf("attempt %d failed; the next one starts after %s", t.Starts, t.NotBefore.Local().Format(time.TimeOnly))
	}
	place := fmt.Sprintf("number %d in the queue", t.Position)
	if t.Reason != "" {
		place = t.Reason + "; " + place
	}
	able := slices.DeleteFunc(slices.Clone(offers), func(o api.Offer) bool { return !o.Fits(t.Resources) })
	open := slices.DeleteFunc(slices.Clone(able), func(o api.Offer) bool { return o.Phase != api.PhaseRunning })
	free := func(o api.Offer) bool { return o.Running < o.Slots }
	switch {
	case offers == nil, slices.ContainsFunc(open, free):
		return place
	case len(offers) == 0:
		return place + "; no runner looks into it"
	case len(able) == 0:
		return fmt.Sprintf("%s; no runner has %s", place, t.Resources)
	case len(open) == 0:
		first := able[0]
		return fmt.Sprintf("%s; no runner that could run it takes tasks: %s is %s", place, first.Runner, first.Phase)
	}
	return place + "; all runners that could run it are busy"
}

// expired says whether a task still waits, though nobody starts it any more.
func expired(t api.TaskStatus) bool {
	return t.State == api.TaskWaiting && t.Task != nil && !t.Task.Expires.IsZero() && time.Now().After(t.Task.Expires.Time)
}

type Cancel struct {
	Place `embed:""`

	IDs []string `arg:"" name:"id" help:"Tasks that are not wanted any more."`
}

// Run cancels all that it can, and says what became of them and what it could not.
func (c *Cancel) Run(ctx context.Context, stdio stdio) error {
	return c.with(toChange, func(store connection) error {
		done, problems := each(c.IDs, func(id string) error { return store.Cancel(ctx, id) })
		if len(done) == 0 {
			return problems
		}
		tasks, err := store.List(ctx, done...)
		for _, t := range tasks {
			said := strings.ToLower(string(t.State))
			if t.State == api.TaskRunning {
				said = "was asked to stop, and ends within its runner's kill delay; runner tasks shows when"
			}
			fmt.Fprintln(stdio.Out, t.ID, said)
		}
		return errors.Join(problems, err)
	})
}

type Retry struct {
	Place `embed:""`

	IDs  []string `arg:"" optional:"" name:"id" help:"Tasks that have ended and shall run once more."`
	Dead bool     `help:"All dead letters."`
}

func (r *Retry) Validate(kctx *kong.Context) error {
	if r.Dead == (len(r.IDs) > 0) {
		return errors.New("name tasks, or --dead for all dead letters")
	}
	return r.Place.Validate(kctx)
}

func (r *Retry) Run(ctx context.Context, stdio stdio) error {
	return r.with(toChange, func(store connection) error {
		ids := r.IDs
		if r.Dead {
			tasks, err := store.List(ctx)
			if err != nil {
				return err
			}
			for _, t := range tasks {
				if t.State == api.TaskDead && t.Task != nil { // what was no task never will be
					ids = append(ids, t.ID)
				}
			}
		}
		done, problems := each(ids, func(id string) error { return store.Again(ctx, id) })
		for _, id := range done {
			fmt.Fprintln(stdio.Out, id, "waits again")
		}
		return problems
	})
}

// each does something with each task, and returns those with which it could.
func each(ids []string, do func(id string) error) (done []string, problems error) {
	for _, id := range ids {
		if err := do(id); err != nil {
			problems = errors.Join(problems, err)
		} else {
			done = append(done, id)
		}
	}
	return done, problems
}

type Purge struct {
	Place `embed:""`

	Older span `required:"" placeholder:"AGE" help:"Remove the tasks that ended longer ago, with their results, as 30d or 12h."`
}

func (p *Purge) Run(ctx context.Context, stdio stdio) error {
	return p.with(toChange, func(store connection) error {
		n, err := store.Purge(ctx, time.Now().Add(-time.Duration(p.Older)))
		_, printErr := fmt.Fprintf(stdio.Out, "%d tasks removed\n", n)
		return errors.Join(err, printErr)
	})
}
