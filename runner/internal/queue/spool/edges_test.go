package spool_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// openLogged opens a spool that looks for dead runners once in so long.
func openLogged(t *testing.T, dir string, rescan time.Duration) (*spool.Spool, *logtest.Text) {
	t.Helper()
	var log logtest.Text
	s, err := spool.Open(dir, spool.Options{Runner: "r", Rescan: rescan,
		Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, &log
}

func wantLog(t *testing.T, log *logtest.Text, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("the log has %d times %s:\n%s", n, line, log.String())
		}
	}
}

// What the queue does by itself is told.
func TestWhatPeopleReadOfTheQueue(t *testing.T) {
	dir := t.TempDir()
	other := open(t, dir, "other")
	submit(t, other, api.Task{ID: "taken"})
	fetch(t, other, "taken")
	s, log := openLogged(t, dir, rescan)
	if log.String() != "" {
		t.Errorf("log of a spool in good order: %s", log)
	}
	other.Crash()
	fetch(t, s, "taken")
	if text := log.String(); !strings.Contains(text, `level=INFO msg="took a task back from a dead runner"`) || !strings.Contains(text, " dead_runner=other") ||
		strings.Contains(text, "could not") {
		t.Errorf("log %s, want that a task was taken back from other", text)
	}

	begun := func(id string) {
		submit(t, s, api.Task{ID: id, MaxAttempts: 1})
		d := fetch(t, s, id)
		if _, err := d.Begin(nil); err != nil {
			t.Fatal(err)
		}
	}
	begun("else")
	store(t, dir, "finished", 1, api.Succeeded)
	drop(t, dir, entryName(1, 1, 1, "lost"), []byte(`{"id":"lost","command":"true","maxAttempts":1}`))
	drop(t, dir, entryName(1, 1, 0, "finished"), []byte(`{"id":"finished","command":"true"}`))
	drop(t, dir, entryName(0, 0, 0, "none"), []byte("x"))
	submit(t, s, api.Task{ID: "last"})
	fetch(t, s, "last")
	wantLog(t, log, `level=INFO msg="removed a task from the queue" task=finished reason="it was finished before"`,
		`level=WARN msg="removed a task from the queue" task=lost reason="attempt 1 of 1 began, and its runner died before it ended"`,
		`level=WARN msg="buried a document that is no task" task=none reason="task document: `)
}

// The claims of dead runners are looked for once in a rescan, not in each look
// at the queue.
func TestDeadRunnersAreLookedForOnceInARescan(t *testing.T) {
	dir := t.TempDir()
	other := open(t, dir, "other")
	s, _ := openLogged(t, dir, time.Hour)
	submit(t, other, api.Task{ID: "a"})
	fetch(t, s, "a")
	submit(t, other, api.Task{ID: "b"})
	fetch(t, other, "b")
	other.Crash()
	submit(t, s, api.Task{ID: "c"})
	fetch(t, s, "c")
	if n := len(contents(t, dir).Claimed); n != 3 {
		t.Errorf("%d tasks are claimed, want that the dead runner's is not looked for yet", n)
	}
}

// A task that is on its way is listed where it goes, and files that are none are not.
func TestContentsOfASpoolInDisorder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "") // makes the directories
	name := func(id string) string { return entryName(0, 0, 0, id) }
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"dead", "claimed", "ready", "cancelled"} {
		write("ready/"+firstBucket+"/"+name(id), "")
	}
	write("cancelled/cancelled", "")
	write("held/x.lock", "somebody\n")
	for _, id := range []string{"dead", "claimed"} {
		write("held/x-"+name(id), "")
	}
	for _, by := range []string{"ready/" + firstBucket + "/hand-1", "held/x-hand-2"} { // none of the queue
		write(by, "")
	}
	write("dead/dead.json", `{"reason": "why"}`)
	write("dead/broken.json", `{`)

	c := contents(t, dir)
	got := func(entries []spool.Entry) (all []string) {
		for _, e := range entries {
			all = append(all, e.Runner+":"+e.ID)
		}
		slices.Sort(all)
		return all
	}
	if diff := cmp.Diff([]string{":ready"}, got(c.Ready)); diff != "" {
		t.Errorf("ready (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"somebody:claimed"}, got(c.Claimed)); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	if len(c.Dead) != 2 || !strings.HasPrefix(c.Dead[0].Reason, "the dead letter cannot be read: ") || c.Dead[1].Reason != "why" {
		t.Errorf("dead %+v, want broken and dead", c.Dead)
	}
}

// An attempt is counted once.
func TestBeginComesOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	if n, err := d.Begin(nil); n != 1 || err != nil {
		t.Fatalf("begin gave %d, %v", n, err)
	}
	if _, err := d.Begin(nil); err == nil || !strings.Contains(err.Error(), "its attempt has begun before") {
		t.Errorf("the second begin gave %v", err)
	}
	if c := contents(t, dir).Claimed; len(c) != 1 || c[0].Starts != 1 {
		t.Errorf("claimed %+v, want one start", c)
	}
}

func TestSettledOnce(t *testing.T) {
	s := open(t, t.TempDir(), "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	if err := d.Release(); err != nil {
		t.Fatal(err)
	}
	again := fetch(t, s, "a")
	_, beginErr := d.Begin(nil)
	_, retryErr := d.Retry("test")
	for verb, err := range map[string]error{
		"ack": d.Ack(), "release": d.Release(), "bury": d.Bury("test"), "begin": beginErr, "retry": retryErr,
	} {
		if err == nil {
			t.Errorf("%s after release succeeded", verb)
		}
	}
	if err := again.Ack(); err != nil {
		t.Error(err)
	}
}

// What fails leaves nothing behind in the directories for what is not complete.
func TestWhatFailsLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	left := func() (names []string) {
		names, err := filepath.Glob(filepath.Join(dir, "tmp/*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	away := func(sub string, try func()) {
		t.Helper()
		path := filepath.Join(dir, sub)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		try()
		if names := left(); len(names) > 0 {
			t.Errorf("left without %s: %q", sub, names)
		}
		os.RemoveAll(path)
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
	away("dead", func() {
		if err := d.Bury("test"); err == nil {
			t.Error("buried in no place")
		}
	})
	away("ready", func() {
		if _, err := s.SubmitOne(&api.Task{Command: "true"}); err == nil {
			t.Error("submitted into no queue")
		}
	})
	away("held", func() {
		submit(t, s, api.Task{ID: "waits"})
		if _, err := s.Fetch(t.Context(), anyClass); err == nil {
			t.Error("claimed in no place")
		}
	})
	if err := d.Bury("test"); err != nil {
		t.Error(err)
	}
}

// fileCounter counts the files that are open, and keeps the garbage collector from
// closing those that were forgotten.
func fileCounter(t *testing.T) func() int {
	t.Helper()
	percent := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(percent) })
	return func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
}

// A runner lives for months: no file stays open, nor does one at its end.
func TestNoFileStaysOpen(t *testing.T) {
	dir := t.TempDir()
	s, count := open(t, dir, "r"), fileCounter(t)
	round := func(ids ...string) {
		var all []spool.Delivery
		for _, id := range ids {
			submit(t, s, api.Task{ID: id})
			d := fetch(t, s, id)
			if _, err := d.Begin(nil); err != nil {
				t.Fatal(err)
			}
			all = append(all, d)
		}
		for _, d := range all[1:] { // which pause together
			if _, err := d.Retry("again"); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(all[0].Release(), fetch(t, s, ids[0]).Ack()); err != nil {
			t.Fatal(err)
		}
		for range ids[1:] {
			d, err := s.Fetch(t.Context(), anyClass)
			if err == nil {
				err = d.(spool.Delivery).Ack()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*rescan) // and looks for dead runners
		defer cancel()
		if d, err := s.Fetch(ctx, anyClass); d != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("fetched %v, %v", d, err)
		}
	}
	round("first")
	var claims []spool.Delivery // as many as are used below
	for i := range 6 {
		submit(t, s, api.Task{ID: fmt.Sprint("claim-", i)})
		claims = append(claims, fetch(t, s, fmt.Sprint("claim-", i)))
	}
	for _, d := range claims {
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	saved := func(id string) { // two attempts, and the checkpoint of the first
		if _, err := s.Submit(t.Context(), []*api.Task{{ID: id, Command: "true"}, {ID: id + "-too", Command: "true"}}); err != nil {
			t.Fatal(err)
		}
		end(t, s, id, api.Interrupted)
		d := fetch(t, s, id)
		if _, err := d.Begin(nil); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Checkpoint(t.TempDir()), d.Ack(), fetch(t, s, id+"-too").Ack()); err != nil {
			t.Fatal(err)
		}
	}
	saved("first-saved")
	before := count()
	round("t-0", "t-1", "t-2", "t-3", "t-4", "t-5")
	round("u-0")
	for i := range 4 {
		saved(fmt.Sprint("saved-", i))
	}
	if after := count(); after > before+2 { // others may have opened one
		t.Errorf("%d files are open, %d were before", after, before)
	}

	before = count()
	for range 5 {
		another := open(t, dir, "another")
		if err := errors.Join(another.Announce(t.Context(), api.Offer{Runner: "another"}), another.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after > before+2 {
		t.Errorf("%d files are open after spools were closed, %d were before", after, before)
	}
}

// As large as may be is not too large, and what is kept is what people wrote.
func TestTheDocumentIsKeptAsItIs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	text := `{"id":"large","command":"true"}`
	drop(t, dir, entryName(0, 0, 0, "large"), []byte(text+strings.Repeat(" ", api.MaxTaskBytes-len(text))))
	fetch(t, s, "large")
	if _, err := s.SubmitOne(&api.Task{ID: "b", Command: "true", Args: []string{"a<b && c>d"}}); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "ready", "*", "*-b.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q, %v", files, err)
	}
	if document, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(document), `"a<b && c>d"`) {
		t.Errorf("document %s, %v, want the argument as it was written", document, err)
	}
}
