package spool_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// end lets the next task, which is this one, end so.
func end(t *testing.T, s *spool.Spool, id string, outcome api.Outcome) {
	t.Helper()
	d := fetch(t, s, id)
	n, err := d.Begin(nil)
	if err == nil {
		err = finish(d, n, outcome)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A list of some tasks reads nothing of those that wait, unless one of them does; one
// of all reads no results.
func TestAListReadsWhatItAnswers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	for _, id := range []string{"finished", "dead", "cancelled", "running", "waiting"} {
		submit(t, s, api.Task{ID: id, MaxAttempts: 1})
	}
	end(t, s, "finished", api.Succeeded)
	end(t, s, "dead", api.Failed)
	if err := s.Cancel(t.Context(), "cancelled"); err != nil {
		t.Fatal(err)
	}
	fetch(t, s, "running")
	want := map[string]api.TaskState{"finished": api.TaskFinished, "dead": api.TaskDead, "cancelled": api.TaskCancelled, "running": api.TaskRunning}
	ready := filepath.Join(dir, "ready")
	if err := errors.Join(os.Rename(ready, ready+".away"), os.WriteFile(ready, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for id, state := range want {
		all, err := spool.Look(dir).List(t.Context(), id)
		if err != nil || len(all) != 1 || all[0].State != state || all[0].Task == nil {
			t.Errorf("%s is %+v, %v, want %s, with its document", id, all, err, state)
		}
	}
	for _, ids := range [][]string{{"waiting"}, {}} {
		if all, err := spool.Look(dir).List(t.Context(), ids...); err == nil {
			t.Errorf("list of %q without what waits: %+v", ids, all)
		}
	}

	if err := errors.Join(os.Remove(ready), os.Rename(ready+".away", ready), os.WriteFile(filepath.Join(dir, "results/finished/1/result.json"), []byte("?"), 0o644)); err != nil {
		t.Fatal(err)
	}
	want["waiting"] = api.TaskWaiting
	all, err := spool.Look(dir).List(t.Context())
	if err != nil || len(all) != len(want) || all[0].ID != "waiting" || all[1].ID != "running" {
		t.Errorf("all are %+v, %v", all, err)
	}
	for _, task := range all {
		if task.State != want[task.ID] {
			t.Errorf("%s is %s, want %s", task.ID, task.State, want[task.ID])
		}
	}
	if starts := all[len(all)-1].Starts; all[len(all)-1].ID != "finished" || starts != 1 {
		t.Errorf("the last is %+v, want finished with one start", all[len(all)-1])
	}
}

// A task of a class that no runner has expires all the same: it is a dead letter to
// whoever lists it, and to whoever looks for other work.
func TestWhatNobodyServesExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, "r")
	expires := api.Time{Time: time.Now().Add(time.Second).UTC().Truncate(time.Second)}
	submit(t, s, api.Task{ID: "late", Resources: api.Resources{GPUs: 64}, Expires: expires, MaxAttempts: 1})
	submit(t, s, api.Task{ID: "last", Resources: api.Resources{GPUs: 64}})
	const reason = "it expired at "
	dead := func() (api.TaskStatus, bool) {
		all, err := spool.Look(dir).List(t.Context())
		if err != nil || len(all) < 2 {
			t.Fatalf("tasks %+v, %v", all, err)
		}
		last := all[len(all)-1]
		return last, last.State == api.TaskDead && all[0].Position == 1
	}
	waitFor(t, func() bool { _, is := dead(); return is })
	late, _ := dead()
	if late.ID != "late" || late.Reason != reason+expires.Format(time.RFC3339) || late.Task == nil || !late.Since.Equal(expires.Time) {
		t.Errorf("late is %+v", late)
	}
	if all, err := s.List(t.Context(), "late"); err != nil || all[0].State != api.TaskDead || all[0].Reason != late.Reason {
		t.Errorf("late alone is %+v, %v", all, err)
	}
	if globs(t, dir, "dead/*") != 0 {
		t.Error("who only lists has written a letter")
	}
	s.Tidy(time.Hour)
	submit(t, s, api.Task{ID: "other"})
	d, err := s.Fetch(t.Context(), func(class api.Resources) bool { return class.GPUs == 0 })
	if err != nil || d.Task().ID != "other" {
		t.Fatal(d, err)
	}
	if globs(t, dir, "dead/late.json") != 1 || globs(t, dir, "ready/*/*late.json") != 0 {
		t.Error("the runner has not buried it")
	}
	if err := s.Again(t.Context(), "late"); err != nil { // which helps nothing
		t.Error(err)
	}
	if _, is := dead(); !is {
		t.Error("it waits again, though it has expired")
	}
	if n, err := s.Purge(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if globs(t, dir, "ready/*/*late.json") != 0 {
		t.Error("it is still in the queue")
	}
}

// What cannot be read is no reason to say that there are no such tasks.
func TestAListSaysWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	for _, sub := range []string{"ready", "held", "results", "dead", "cancelled"} {
		place := filepath.Join(dir, sub)
		if err := errors.Join(os.Rename(place, place+".away"), os.WriteFile(place, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		if all, err := spool.Look(dir).List(t.Context()); err == nil {
			t.Errorf("list without %s: %+v", sub, all)
		}
		_, err := spool.Look(dir).Length(t.Context())
		if counted := slices.Contains([]string{"ready", "dead"}, sub); counted != (err != nil) {
			t.Errorf("length without %s: %v", sub, err)
		}
		if err := errors.Join(os.Remove(place), os.Rename(place+".away", place)); err != nil {
			t.Fatal(err)
		}
	}
}

// Classes have directories of their own, and one order all the same.
func TestAListIsInTheOrderOfTheSubmits(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	want := []string{"a", "b", "c", "d"}
	for i, id := range want {
		submit(t, s, api.Task{ID: id, Resources: api.Resources{GPUs: (len(want) - i) % 2}})
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != len(want) {
		t.Fatalf("tasks %+v, %v", all, err)
	}
	for i, task := range all {
		if task.ID != want[i] || task.Position != i+1 {
			t.Errorf("place %d is of %s, which says %d, want %s", i+1, task.ID, task.Position, want[i])
		}
	}
}

// Where there are no links, or somebody has removed files, a task is where its file is.
func TestAListWithoutLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, "r")
	for _, id := range []string{"cancelled", "a"} {
		submit(t, s, api.Task{ID: id})
	}
	document := filepath.Join(dir, "results/a/task.json")
	text, err := os.ReadFile(document)
	if err := errors.Join(err, os.Remove(document), os.WriteFile(document, text, 0o644), s.Cancel(t.Context(), "cancelled")); err != nil {
		t.Fatal(err)
	}
	is := func(state api.TaskState) api.TaskStatus {
		t.Helper()
		all, err := s.List(t.Context(), "a")
		if err != nil || all[0].State != state {
			t.Fatalf("a is %+v, %v, want %s", all, err, state)
		}
		return all[0]
	}
	waits := is(api.TaskWaiting)
	if waits.Position != 1 {
		t.Errorf("its position is %d, though the other is cancelled", waits.Position)
	}
	waitFor(t, func() bool { return time.Since(waits.Since) > 20*time.Millisecond }) // by the clock of the file system, too
	end(t, s, "a", api.Failed)
	is(api.TaskWaiting)
	d := fetch(t, s, "a")
	if runs := is(api.TaskRunning); !runs.Since.After(waits.Since) {
		t.Errorf("it runs since %s, and waited since %s", runs.Since, waits.Since)
	}
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}
	for _, file := range contents(t, dir).Ready {
		if err := os.Remove(filepath.Join(dir, file.File)); err != nil {
			t.Fatal(err)
		}
	}
	// It goes on where it was, and does not count as finished.
	if done, err := s.Submit(t.Context(), []*api.Task{{ID: "a", Command: "true"}}); err != nil || done[0].Before != "" {
		t.Fatalf("submit gave %+v, %v", done, err)
	}
	if n, err := fetch(t, s, "a").Begin(nil); n != 2 || err != nil {
		t.Errorf("attempt %d, %v, want 2", n, err)
	}
}
