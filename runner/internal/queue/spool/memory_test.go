package spool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Left-overs of dead processes are removed once nobody can still need them.
func TestOldLeftOversAreSwept(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "")
	for name, age := range map[string]time.Duration{"old": time.Hour + time.Minute, "young": time.Hour - time.Minute} {
		path := filepath.Join(dir, "tmp", name)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chtimes(path, time.Time{}, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir, "")
	waitFor(t, func() bool { return globs(t, dir, "tmp/old") == 0 })
	if globs(t, dir, "tmp/young") != 1 {
		t.Error("the young one is gone")
	}
}

// A tree that a task has left, and that takes long to remove, holds up neither the end of
// its runner nor the begin of another: who lives removes it beside its work.
func TestALargeTreeHoldsNobodyUp(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	begin(t, d)
	work, _ := d.Work()
	const files = 40_000
	slow := os.WriteFile(filepath.Join(work, "0"), nil, 0o644)
	for i := range files {
		if i%1000 == 0 {
			slow = errors.Join(slow, os.Mkdir(filepath.Join(work, fmt.Sprint("d", i/1000)), 0o755))
		}
		slow = errors.Join(slow, os.Symlink("x", filepath.Join(work, fmt.Sprint("d", i/1000), fmt.Sprint(i))))
	}
	if slow != nil {
		t.Fatal(slow)
	}
	within := func(what string, do func()) {
		t.Helper()
		began := time.Now()
		do()
		if took := time.Since(began); took > 5*time.Second { // on a busy machine, too
			t.Errorf("%s took %v", what, took)
		}
	}
	within("close", func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	only(t, s, dir, "a", 1, api.TaskWaiting)
	if globs(t, dir, "tmp/gone-*/attempt") == 0 {
		t.Error("the tree is gone already: it is not large enough for this test")
	}
	within("open and fetch", func() {
		s = open(t, dir, "next")
		d = fetch(t, s, "a")
	})
	waitFor(t, func() bool { return globs(t, dir, "tmp/*") == 0 })
	if err := d.Release(); err != nil {
		t.Error(err)
	}
}

// Also in a runner that lives for months, and not in each look at the claims.
func TestLeftOversAreSweptNowAndThen(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "").Close()
	leave := func(name string) {
		t.Helper()
		path := filepath.Join(dir, "tmp", name)
		if err := errors.Join(os.WriteFile(path, nil, 0o644), os.Chtimes(path, time.Time{}, time.Now().Add(-2*time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	leave("first")
	s := open(t, dir, "r")
	waitFor(t, func() bool { return globs(t, dir, "tmp/first") == 0 })
	leave("old")
	look := func(id string) {
		t.Helper()
		submit(t, s, api.Task{ID: id})
		s.Reclaim()
		fetch(t, s, id)
	}
	s.Tidy(-time.Hour) // not before an hour
	look("a")
	time.Sleep(rescan)
	if globs(t, dir, "tmp/old") == 0 {
		t.Error("swept too early")
	}
	s.Tidy(60 * rescan)
	look("b")
	waitFor(t, func() bool { return globs(t, dir, "tmp/old") == 0 })
}

// Close waits for what is under way, may be repeated, and says what failed.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	inside, over := make(chan struct{}), make(chan struct{})
	var done atomic.Bool
	go func() {
		defer close(over)
		first := true
		_, _ = s.Fetch(t.Context(), func(api.Resources) bool {
			if first {
				first = false
				close(inside)
				time.Sleep(50 * time.Millisecond) // Close must take longer
				done.Store(true)
			}
			return false
		})
	}()
	<-inside
	if err := s.Close(); err != nil || !done.Load() {
		t.Errorf("close gave %v, and has waited: %v", err, done.Load())
	}
	<-over
	for range 3 {
		if err := s.Close(); err != nil {
			t.Errorf("close again: %v", err)
		}
	}

	s = open(t, dir, "r")
	fetch(t, s, "a")
	if err := os.Rename(filepath.Join(dir, "ready"), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "release task a") {
		t.Errorf("close of a spool without a place for its task gave %v", err)
	}
}

// The clock may be set back: what comes later is behind, all the same, and what
// was there before does not wait for the clock.
func TestTheEndOfTheQueueIsBehindTheLastTask(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	if err := os.WriteFile(filepath.Join(dir, "submit.lock"), []byte("9000000000000000 9000000000000000 001\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"a", "b", "c"}
	for _, id := range want {
		submit(t, s, api.Task{ID: id})
	}
	for _, id := range want {
		fetch(t, s, id)
	}
}

// A submit waits for another one, and says of which task it is.
func TestSubmitWaitsForAnother(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	submit(t, s, api.Task{ID: "a"})
	lock, err := os.Open(filepath.Join(dir, "submit.lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	submitted := make(chan error)
	go func() {
		_, err := s.SubmitOne(&api.Task{ID: "b", Command: "true"})
		submitted <- err
	}()
	select {
	case err := <-submitted:
		t.Errorf("submitted while another one was: %v", err)
	case <-time.After(50 * time.Millisecond):
		lock.Close()
		if err := <-submitted; err != nil {
			t.Error(err)
		}
	}
	if _, err := s.SubmitOne(&api.Task{ID: "b", Command: "true", Timeout: -1}); err == nil || !strings.HasPrefix(err.Error(), `submit task "b": `) {
		t.Errorf("a wrong task gave %v, want its name", err)
	}
	if _, err := s.SubmitOne(&api.Task{}); err == nil || !strings.HasPrefix(err.Error(), "submit task: ") {
		t.Errorf("a wrong task without a name gave %v", err)
	}
}
