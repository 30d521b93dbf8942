package spool_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/scarce"
)

// The spool goes out of reach while a runner holds tasks, and comes back.
func TestUnreachable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	away := dir + ".away"
	s := open(t, dir, "r")
	for _, id := range []string{"ack", "release", "retry", "bury", "begin"} {
		submit(t, s, api.Task{ID: id})
	}
	ack, release, retry := fetch(t, s, "ack"), fetch(t, s, "release"), fetch(t, s, "retry")
	bury, begin := fetch(t, s, "bury"), fetch(t, s, "begin")
	if _, err := release.Begin(nil); err != nil {
		t.Fatal(err)
	}
	all := func() map[string]error {
		errs := map[string]error{"ack": ack.Ack(), "release": release.Release(), "bury": bury.Bury("test")}
		_, errs["retry"] = retry.Retry("test")
		_, errs["begin"] = begin.Begin(nil)
		return errs
	}

	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	for verb, err := range all() {
		if err == nil {
			t.Errorf("%s succeeded without a spool", verb)
		}
	}
	_, err := s.Fetch(t.Context(), anyClass)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "ready")) {
		t.Errorf("fetch gave %v, want an error with the path", err)
	}
	if _, err := s.SubmitOne(&api.Task{Command: "true"}); err == nil {
		t.Error("submit succeeded without a spool")
	}
	if err := s.Announce(t.Context(), api.Offer{Runner: "r"}); err == nil {
		t.Error("an offer succeeded without a spool")
	}
	if err := s.MakeWork("claim"); err == nil {
		t.Error("a claim got its place without a spool")
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("there is a new spool where the old one has to come back")
	}

	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	for verb, err := range all() {
		if err != nil {
			t.Errorf("%s after the return: %v", verb, err)
		}
	}
	c := contents(t, dir)
	got := []string{}
	for _, e := range c.Ready {
		got = append(got, fmt.Sprintln("ready", e.ID, e.Starts, e.Spent))
	}
	for _, e := range c.Claimed {
		got = append(got, fmt.Sprintln("claimed", e.ID, e.Starts, e.Spent))
	}
	for _, d := range c.Dead {
		got = append(got, "dead "+d.ID)
	}
	want := []string{"ready release 1 0\n", "ready retry 1 1\n", "claimed begin 1 0\n", "dead bury"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after the return (-want +got):\n%s", diff)
	}
	fetch(t, s, "release")
}

// A Fetch that waits goes through it as well: error, and then again the task.
func TestUnreachableWhileWaiting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s, other := open(t, dir, "r"), open(t, dir, "")
	submit(t, other, api.Task{ID: "refused"})
	looked, failed := fetching(t.Context(), s, func(api.Resources) bool { return false })
	<-looked
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("fetch gave no error")
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	fetch(t, s, "refused")
}

// Somebody exchanges the whole directory for an empty one: the runner goes on
// there, and settles its old tasks when the old directory is back.
func TestExchanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	away := dir + ".away"
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "old"})
	old := fetch(t, s, "old")
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	submit(t, open(t, dir, ""), api.Task{ID: "new"})
	if err := fetch(t, s, "new").Ack(); err != nil {
		t.Error(err)
	}
	if err := old.Ack(); err == nil {
		t.Error("ack of a task in another directory succeeded")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	open(t, dir, "other") // would take a dead runner's task
	if c := contents(t, dir); len(c.Claimed) != 1 || len(c.Ready) != 0 {
		t.Errorf("claimed: %+v, ready: %+v; want the old task still claimed", c.Claimed, c.Ready)
	}
	if err := old.Ack(); err != nil {
		t.Errorf("ack after the return: %v", err)
	}
}

// Somebody takes tasks out of a claim by hand: what is gone cannot be started,
// and there is nothing left to settle.
func TestTakenOutByHand(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	for _, id := range []string{"a", "b"} {
		submit(t, s, api.Task{ID: id})
	}
	a, b := fetch(t, s, "a"), fetch(t, s, "b")
	for _, e := range contents(t, dir).Claimed {
		if err := os.Remove(filepath.Join(dir, e.File)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Begin(nil); err == nil {
		t.Error("begin of a task that is gone succeeded")
	}
	if err := a.Release(); err != nil {
		t.Error(err)
	}
	for _, lock := range globbed(t, dir, "held/*") { // even so
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Ack(); err != nil {
		t.Error(err)
	}
}

// unlisted makes a directory one of which nobody can tell what is in it, until it is back.
func unlisted(t *testing.T, dir, sub string) (back func()) {
	t.Helper()
	path := filepath.Join(dir, sub)
	if err := os.Chmod(path, 0o300); err != nil {
		t.Fatal(err)
	}
	giveBack := scarce.Rights(t, dir)
	return func() {
		giveBack()
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Results that cannot be listed for a moment are not taken for none: whoever needs to know
// them says so, and nothing begins anew.
func TestResultsThatCannotBeListed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	if err := finish(d, begin(t, d), api.Interrupted); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "results/a/1/checkpoint/state"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d = fetch(t, s, "a")
	n := begin(t, d)
	refused := func(what string, do func() error) {
		t.Helper()
		back := unlisted(t, dir, "results/a")
		err := do()
		back()
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want that it is refused", what, err)
		}
	}
	found := t.TempDir()
	checkpoint := func() error { return d.Checkpoint(found) }
	refused("checkpoint", checkpoint)
	if err := checkpoint(); err != nil || globs(t, found, "state") != 1 {
		t.Errorf("the checkpoint is not there later: %v", err)
	}
	if err := finish(d, n, api.Succeeded); err != nil {
		t.Fatal(err)
	}
	refused("submit of the same", func() error {
		_, err := s.SubmitOne(&api.Task{ID: "a", Command: "true"})
		return err
	})
	refused("retry", func() error { return s.Again(t.Context(), "a") })
	refused("list", func() error {
		_, err := s.List(t.Context(), "a")
		return err
	})
	only(t, s, dir, "a", 0, api.TaskFinished)
	if err := s.Again(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if n := begin(t, fetch(t, s, "a")); n != 3 {
		t.Errorf("the retry is attempt %d, want 3", n)
	}
}
