package spool_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/logtest"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// instead puts a file where a directory of the spool is, and returns what undoes that.
func instead(t *testing.T, dir, sub string) (back func()) {
	t.Helper()
	path := filepath.Join(dir, sub)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o644)))
	return func() { must(errors.Join(os.Remove(path), os.Rename(path+".away", path))) }
}

func begin(t *testing.T, d spool.Delivery) int {
	t.Helper()
	n, err := d.Begin(nil)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// only requires what is left of a task in the queue, as ready or held, and its state.
func only(t *testing.T, s *spool.Spool, dir, id string, files int, state api.TaskState) {
	t.Helper()
	if n := globs(t, dir, "ready/*/*-"+id+".json") + globs(t, dir, "held/*-"+id+".json"); n != files {
		t.Errorf("%s has %d files in the queue, want %d", id, n, files)
	}
	all, err := s.List(t.Context(), id)
	if err != nil || all[0].State != state {
		t.Errorf("%s is %+v, %v, want %s", id, all, err, state)
	}
}

// What cannot be taken back from a dead runner now is told, and is taken back later.
func TestATaskThatCannotBeTakenBack(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	crashed := open(t, dir, "crashed")
	submit(t, s, api.Task{ID: "a"})
	begin(t, fetch(t, crashed, "a"))
	back := instead(t, dir, "ready")
	crashed.Crash()
	waitFor(t, func() bool {
		if d, err := s.Fetch(t.Context(), anyClass); d != nil || err == nil {
			t.Fatalf("fetched %v, %v", d, err)
		}
		return strings.Contains(log.String(), `level=WARN msg="could not take back a claim"`)
	})
	back()
	fetch(t, s, "a")
}

// What cannot be judged now, nor be put back, comes back.
func TestATaskThatCannotBeJudged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	fileCounter(t)                                      // a collector would drop the lock of what is forgotten
	for _, sub := range []string{"cancelled", "dead"} { // without the first it cannot go back either
		submit(t, s, api.Task{ID: sub})
		back := instead(t, dir, sub)
		if d, err := s.Fetch(t.Context(), anyClass); d != nil || err == nil {
			t.Fatalf("without %s fetched %v, %v", sub, d, err)
		}
		back()
		if err := fetch(t, s, sub).Ack(); err != nil {
			t.Error(err)
		}
	}
}

// A result of the attempt that somebody else has stored is the one that counts.
func TestAResultThatIsThereBefore(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a", MaxAttempts: 1})
	d := fetch(t, s, "a")
	n := begin(t, d)
	store(t, dir, "a", n, api.Failed)
	if err := finish(d, n, api.Succeeded); err != nil {
		t.Error(err)
	}
	only(t, s, dir, "a", 0, api.TaskDead)
}

// letter is a dead letter of a task.
func letter(t *testing.T, dir, id string) {
	t.Helper()
	text := fmt.Sprintf(`{"task":{"id":%q,"command":"true"},"reason":"why","attempts":3,"time":"2026-01-01T00:00:00Z"}`, id)
	if err := os.WriteFile(filepath.Join(dir, "dead", id+".json"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A runner dies when it has said half of an end, or its owner has: whoever finds the
// task knows what is so.
func TestHalfOfAnEnd(t *testing.T) {
	dir := t.TempDir()
	s, crashed := open(t, dir, "r"), open(t, dir, "crashed")
	for _, id := range []string{"finished", "buried"} {
		submit(t, s, api.Task{ID: id})
		begin(t, fetch(t, crashed, id))
	}
	store(t, dir, "finished", 1, api.Succeeded)
	if err := s.Cancel(t.Context(), "finished"); err != nil { // too late
		t.Fatal(err)
	}
	letter(t, dir, "buried")
	crashed.Crash()
	submit(t, s, api.Task{ID: "again"})
	letter(t, dir, "again") // which its owner was about to remove
	d := fetch(t, s, "again")
	only(t, s, dir, "finished", 0, api.TaskFinished)
	only(t, s, dir, "buried", 0, api.TaskDead)
	only(t, s, dir, "again", 1, api.TaskRunning)
	if err := d.Release(); err != nil {
		t.Error(err)
	}
}

// A runner ends when it has stored a result and could not say so: that ends the task all the
// same, now that it can.
func TestAResultThatCouldNotBeTold(t *testing.T) {
	for _, tt := range []struct {
		outcome api.Outcome
		files   int
		state   api.TaskState
	}{
		{api.Succeeded, 0, api.TaskFinished}, {api.Cancelled, 0, api.TaskCancelled},
		{api.Failed, 0, api.TaskDead}, {api.Interrupted, 1, api.TaskWaiting},
	} {
		for name, stored := range map[string]func(dir string, d spool.Delivery, attempt int){
			"its claim was out of reach then": func(dir string, d spool.Delivery, attempt int) {
				defer instead(t, dir, "held")()
				if err := finish(d, attempt, tt.outcome); err == nil {
					t.Error("the end was told")
				}
			},
			"no sync followed": func(dir string, _ spool.Delivery, attempt int) { store(t, dir, "a", attempt, tt.outcome) },
		} {
			t.Run(string(tt.outcome)+", "+name, func(t *testing.T) {
				dir := t.TempDir()
				s := open(t, dir, "r")
				submit(t, s, api.Task{ID: "a", MaxAttempts: 1})
				d := fetch(t, s, "a")
				stored(dir, d, begin(t, d))
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				only(t, open(t, dir, "next"), dir, "a", tt.files, tt.state)
			})
		}
	}
}

// A task that runs may be cancelled twice, and one that was cancelled while it waited
// is in the queue once when it waits again.
func TestCancelTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	for _, id := range []string{"runs", "waits"} {
		submit(t, s, api.Task{ID: id})
	}
	fetch(t, s, "runs")
	for range 2 {
		if err := s.Cancel(t.Context(), "runs"); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(s.Cancel(t.Context(), "waits"), s.Again(t.Context(), "waits")); err != nil {
		t.Error(err)
	}
	only(t, s, dir, "waits", 1, api.TaskWaiting)
	if err := s.Cancel(t.Context(), "nobody"); err == nil || err.Error() != `cancel task "nobody": there is no such task` {
		t.Errorf("cancel of nobody: %v", err)
	}
}

// A retry of a cancelled task for which there is no room leaves it cancelled.
func TestAgainWithoutRoom(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	submit(t, s, api.Task{ID: "a"})
	if err := s.Cancel(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	back := instead(t, dir, "tmp")
	if err := s.Again(t.Context(), "a"); err == nil {
		t.Error("retried without a place for its letter")
	}
	back()
	if all, err := s.List(t.Context(), "a"); err != nil || all[0].State != api.TaskCancelled {
		t.Errorf("after a retry that failed: %+v, %v, want Cancelled", all, err)
	}
}

// So is one that has expired there, which nobody has buried.
func TestAgainOfWhatHasExpired(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	submit(t, s, api.Task{ID: "late", Expires: api.Time{Time: time.Now().Add(-time.Hour).UTC().Truncate(time.Second)}})
	if err := s.Again(t.Context(), "late"); err != nil {
		t.Error(err)
	}
	only(t, s, dir, "late", 1, api.TaskDead)
}

// What cannot be removed is told, and the task is known still.
func TestPurgeOfWhatStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a", MaxAttempts: 1})
	end(t, s, "a", api.Failed)
	letter := filepath.Join(dir, "dead", "a.json")
	if err := errors.Join(os.Remove(letter), os.MkdirAll(filepath.Join(letter, "sub"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Purge(t.Context(), time.Now().Add(time.Hour)); n != 0 || err == nil {
		t.Errorf("purged %d, %v, want that its letter cannot be removed", n, err)
	}
}

// Tasks of several classes start in the order of their submits.
func TestOrderOfClasses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	var want []string
	for i := range 6 {
		want = append(want, submit(t, s, api.Task{Resources: api.Resources{GPUs: i % 2}}))
	}
	for _, id := range want {
		fetch(t, s, id)
	}
}

// Whoever waits for a turn says so after ten seconds, and nobody else.
func TestALongWaitForATurnIsTold(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log logtest.Text
		s, err := spool.Open(dir, spool.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		submit(t, s, api.Task{ID: "a"})
		time.Sleep(time.Minute)
		if log.String() != "" {
			t.Errorf("log after a submit that did not wait: %s", &log)
		}
		lock, err := os.Open(filepath.Join(dir, "submit.lock"))
		if err == nil {
			err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(11*time.Second, func() { lock.Close() })
		submit(t, s, api.Task{ID: "b"})
		if n := strings.Count(log.String(), "others submit all the time"); n != 1 {
			t.Errorf("told %d times, want once:\n%s", n, &log)
		}
	})
}

// The disk has no room for one more name: the task is not in, and nobody is told that
// it is.
func TestNoRoomForAName(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("spool", disk, "tmpfs", 0, "nr_inodes=200"); err != nil {
		t.Skipf("only root can make a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	dir := filepath.Join(disk, "spool")
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "first"})
	const itsDirectoryAndDocument = 2
	var fillers []string
	for err := error(nil); err == nil; {
		name := filepath.Join(disk, fmt.Sprint("filler-", len(fillers)))
		if err = os.WriteFile(name, nil, 0o600); err == nil {
			fillers = append(fillers, name)
		}
	}
	for _, name := range fillers[:itsDirectoryAndDocument] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if id, err := s.SubmitOne(&api.Task{ID: "second", Command: "true"}); id != "" || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("submitted %q, %v", id, err)
	}
	for _, name := range fillers[itsDirectoryAndDocument:] {
		os.Remove(name)
	}
	submit(t, s, api.Task{ID: "second"})
	fetch(t, s, "first")
	fetch(t, s, "second")
}
