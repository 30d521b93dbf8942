package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Tasks is the tasks command.
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

// begin is as much of a command as a table shows: a script would make all its rows as long.
func begin(command string) string {
	const most = 80
	if letters := []rune(command); len(letters) > most {
		return string(letters[:most]) + "…"
	}
	return command
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
			priority, command = fmt.Sprint(task.Priority), begin(strings.Join(append([]string{task.Command}, task.Args...), " "))
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
	if offers == nil {
		return place
	}
	fits, open, free, closed := false, false, false, ""
	for _, o := range offers {
		if !o.Fits(t.Resources) {
			continue
		}
		fits = true
		if o.Phase != api.PhaseRunning {
			closed = cmp.Or(closed, fmt.Sprintf("%s is %s", o.Runner, o.Phase))
			continue
		}
		open, free = true, free || o.Running < o.Slots
	}
	switch {
	case len(offers) == 0:
		return place + "; no runner looks into it"
	case !fits:
		return fmt.Sprintf("%s; no runner has %s", place, t.Resources)
	case !open:
		return fmt.Sprintf("%s; no runner that could run it takes tasks: %s", place, closed)
	case !free:
		return place + "; all runners that could run it are busy"
	}
	return place
}

// expired says whether a task still waits, though nobody starts it any more.
func expired(t api.TaskStatus) bool {
	return t.State == api.TaskWaiting && t.Task != nil && !t.Task.Expires.IsZero() && time.Now().After(t.Task.Expires.Time)
}
