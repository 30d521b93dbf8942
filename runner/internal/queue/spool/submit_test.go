package spool_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

func TestSubmitMakesID(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	a, b := submit(t, s, api.Task{}), submit(t, s, api.Task{})
	if a == "" || a == b {
		t.Errorf("made IDs %q and %q, want two different ones", a, b)
	}
	var ids []string
	for _, e := range contents(t, dir).Ready {
		ids = append(ids, e.ID)
	}
	if diff := cmp.Diff([]string{a, b}, ids); diff != "" {
		t.Errorf("ready tasks (-want +got):\n%s", diff)
	}
}

func TestSubmitRefuses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "gpu-1")
	for _, id := range []string{"claimed", "buried", "ready", "other.ready"} {
		submit(t, s, api.Task{ID: id})
	}
	fetch(t, s, "claimed")
	if err := fetch(t, s, "buried").Bury("test"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(spool.ResultsDir(dir), "finished", "1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, id, command, want string }{
		{"ready", "ready", "false", "in use by another task"},
		{"claimed", "claimed", "false", "in use by another task"},
		{"dead", "buried", "false", "in use by another task"},
		{"of before, with results", "finished", "true", "has results"},
		{"invalid", "new", " ", "command: is"},
		{"bad ID", "../new", "true", "id: is"},
		{"too large", "new", strings.Repeat("x", api.MaxTaskBytes), "allowed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.SubmitOne(&api.Task{ID: test.id, Command: test.command})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error is %v, want %q in it", err, test.want)
			}
			if len(err.Error()) > 400 {
				t.Errorf("error has %d bytes", len(err.Error()))
			}
		})
	}
	if _, err := s.SubmitOne(&api.Task{ID: "ready-2", Command: "true"}); err != nil {
		t.Errorf("an ID that only looks alike is refused: %v", err)
	}
}

// catalogue: row 79
func TestSubmitSameIDAtOnce(t *testing.T) {
	const submitters, tasks = 4, 20
	dir := t.TempDir()
	var fresh atomic.Int64
	var all sync.WaitGroup
	for range submitters {
		s := open(t, dir, "")
		all.Go(func() {
			for i := range tasks {
				done, err := s.Submit(t.Context(), []*api.Task{{ID: fmt.Sprint("t", i), Command: "true"}})
				if err != nil {
					t.Error(err)
				} else if done[0].Before == "" {
					fresh.Add(1)
				}
			}
		})
	}
	all.Wait()
	if c := contents(t, dir); len(c.Ready) != tasks {
		t.Errorf("%d tasks are in the queue, want one for each of %d IDs", len(c.Ready), tasks)
	}
	if got := fresh.Load(); got != tasks {
		t.Errorf("%d submits were the first, want %d", got, tasks)
	}
}

// As many as may be take their turns.
func TestManySubmitAtOnce(t *testing.T) {
	const submitters = 500
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range submitters {
		s := open(t, dir, "")
		all.Go(func() {
			if _, err := s.SubmitOne(&api.Task{ID: fmt.Sprint("t", i), Command: "true"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if c := contents(t, dir); len(c.Ready) != submitters {
		t.Errorf("%d tasks are in the queue, want %d", len(c.Ready), submitters)
	}
}

// Who waits for a turn can stop waiting, and is told for what it was.
func TestASubmitThatWaitsEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	submit(t, s, api.Task{ID: "a"})
	lock, err := os.Open(filepath.Join(dir, "submit.lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	count := fileCounter(t)
	before := count()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if done, err := s.Submit(ctx, []*api.Task{{Command: "true"}}); len(done) > 0 || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "submit.lock") {
			t.Errorf("submit gave %v, %v; want that it waited for the lock", done, err)
		}
	}
	if after := count(); after > before+1 {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// What root does with a queue, be it as the first, leaves it its owner's: a umask may keep
// all others from what is root's.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of another user")
	}
	const user = 65534
	dir := t.TempDir()
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, "")
	submit(t, s, api.Task{ID: "a"})
	submit(t, s, api.Task{ID: "b"})
	if err := s.Cancel(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if err = errors.Join(err, unix.Lstat(path, &stat)); err == nil && (stat.Uid != user || stat.Gid != user) {
			t.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Runners remove buckets that are empty, and take what comes at once. Who submits
// meanwhile is not disturbed by that.
func TestSubmitWhileBucketsGo(t *testing.T) {
	dir := t.TempDir()
	s, owner := open(t, dir, "r"), open(t, dir, "")
	ctx, enough := context.WithCancel(t.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer enough()
	others.Go(func() { // buckets that are not empty stay
		for ctx.Err() == nil {
			buckets, _ := filepath.Glob(filepath.Join(dir, "ready", "*"))
			for _, b := range buckets {
				os.Remove(b)
			}
		}
	})
	var taken atomic.Int32
	others.Go(func() {
		once := map[string]bool{}
		for ctx.Err() == nil {
			if d, err := s.Fetch(ctx, func(api.Resources) bool { return true }); err == nil {
				if taken.Add(1); once[d.Task().ID] {
					t.Errorf("%s is there twice", d.Task().ID)
				}
				once[d.Task().ID] = true
				if err := d.(interface{ Ack() error }).Ack(); err != nil {
					t.Errorf("ack: %v", err)
				}
			}
		}
	})
	const tasks, together = 300, 3
	for i := 0; i < tasks; i += together {
		var some []*api.Task
		for n := range together {
			some = append(some, &api.Task{ID: fmt.Sprint("t", i+n), Command: "true"})
		}
		if _, err := owner.Submit(ctx, some); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return taken.Load() == tasks })
}
