package spool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// globbed is what a pattern finds in the spool, globs how much that is.
func globbed(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func globs(t *testing.T, dir, pattern string) int { return len(globbed(t, dir, pattern)) }

// However many wait, they are in directories of some hundred, in their order; those
// that are empty go away, and the last one stays for what comes next.
func TestBuckets(t *testing.T) {
	const tasks, size = 300, 256
	dir := t.TempDir()
	s := open(t, dir, "r")
	var many []*api.Task
	for i := range tasks {
		many = append(many, &api.Task{ID: fmt.Sprintf("t%04d", i), Command: "true"})
	}
	if _, err := s.Submit(t.Context(), many[:150]); err != nil {
		t.Fatal(err)
	}
	for _, task := range many[150:170] { // the end is found again
		if _, err := s.SubmitOne(task); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Submit(t.Context(), many[170:]); err != nil {
		t.Fatal(err)
	}
	buckets, err := filepath.Glob(filepath.Join(dir, "ready/*"))
	if err != nil || len(buckets) != (tasks+size-1)/size {
		t.Errorf("%d buckets, %v, want %d", len(buckets), err, (tasks+size-1)/size)
	}
	if n := globs(t, buckets[0], "*"); n != size {
		t.Errorf("%d entries in the first bucket, want %d", n, size)
	}
	for i := range tasks {
		d := fetch(t, s, fmt.Sprintf("t%04d", i))
		if i%100 == 0 { // its place is not last
			if err := d.Release(); err != nil {
				t.Fatal(err)
			}
			d = fetch(t, s, fmt.Sprintf("t%04d", i))
		}
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if n := globs(t, dir, "ready/*"); n != 1 {
		t.Errorf("%d buckets are left, want the last one", n)
	}
}

// Those of other classes beside the last one stay as well: else who submits and who looks
// for work would make and remove one in turns.
func TestBucketsBesideTheLast(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	submit(t, s, api.Task{ID: "b", Resources: api.Resources{GPUs: 1}})
	if err := fetch(t, s, "a").Ack(); err != nil {
		t.Fatal(err)
	}
	fetch(t, s, "b") // which looks into the empty one first
	if n := globs(t, dir, "ready/*"); n != 2 {
		t.Errorf("%d buckets are left, want both", n)
	}
}

// What people put between the lanes keeps nobody from a task, and is left alone
// where it is none of the queue.
func TestForeignNamesInReady(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	bucket := "ready/10-0000000000000001-0-0-0/"
	for _, path := range []string{
		"ready/file", "ready/0-0/file", "ready/10-0000000000000001-0-00-0/file", "ready/10-0000000000000001x-0-0-0/file", "ready/10-1-0-0-0/file",
		"ready/10-0000000000000001-0-0-0-99/file", bucket + ".hidden", bucket + "sub/file",
		bucket + "10-0000000000000001-0-0000000000000001-0-0-0-0-0-0-a.json", bucket + "0 no task",
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("{"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, s, api.Task{ID: "good"})
	fetch(t, s, "good")
	var dead []string
	for _, d := range contents(t, dir).Dead {
		dead = append(dead, d.Document)
	}
	if diff := cmp.Diff([]string{"{"}, dead); diff != "" {
		t.Errorf("documents of dead letters (-want +got):\n%s", diff)
	}
	if n := globs(t, dir, "ready/*/*/file") + globs(t, dir, "ready/*/file") + globs(t, dir, "ready/file") + globs(t, dir, bucket+".hidden") + globs(t, dir, bucket+"0 no task"); n != 9 {
		t.Errorf("%d of the others are left, want all 9", n)
	}
}

// A pause is over when its time has come, whatever the clock says of other keys.
func TestAPauseIsNoOrder(t *testing.T) {
	t.Parallel()
	const least = time.Second
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	failed := time.Now()
	if _, err := d.Retry("test"); err != nil {
		t.Fatal(err)
	}
	ready := contents(t, dir).Ready
	if len(ready) != 1 || ready[0].NotBefore.Before(failed.Add(least)) && time.Since(failed) < least { // else it is over
		t.Fatalf("ready %+v, want one that pauses", ready)
	}
	fetch(t, s, "a")
	if took := time.Since(failed); took < least {
		t.Errorf("fetched after %s, want a pause of %s", took, least)
	}
}

// A pause that began by a clock which was far ahead is over.
func TestAPauseOfAnotherTime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	d := fetch(t, s, "a")
	begin(t, d)
	if _, err := d.Retry("why"); err != nil {
		t.Fatal(err)
	}
	from := func(after time.Duration) {
		t.Helper()
		text := fmt.Sprintf("10-%016d-1", time.Now().Add(after).UnixMicro())
		file := globbed(t, dir, "ready/10-*-1-*/*")[0]
		bucket := filepath.Dir(file)
		next := filepath.Join(dir, "ready", text+filepath.Base(bucket)[len(text):])
		if err := errors.Join(os.Rename(file, filepath.Join(bucket, text+filepath.Base(file)[len(text):])), os.Rename(bucket, next)); err != nil {
			t.Fatal(err)
		}
	}
	from(4 * time.Minute)
	look(t, s, anyClass)
	from(365 * 24 * time.Hour)
	if all, err := s.List(t.Context(), "a"); err != nil || !all[0].NotBefore.IsZero() {
		t.Errorf("task %+v, %v, want it to wait for nothing", all, err)
	}
	if err := fetch(t, s, "a").Ack(); err != nil {
		t.Error(err)
	}
}

// The names in a bucket are remembered, but not what others have changed since.
func TestNamesThatAreRemembered(t *testing.T) {
	dir := t.TempDir()
	var runners []*spool.Spool
	for range 2 {
		s, err := spool.Open(dir, spool.Options{Runner: "r", Rescan: time.Hour}) // nothing is read anew for its age
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		runners = append(runners, s)
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		submit(t, runners[0], api.Task{ID: id})
	}
	a := fetch(t, runners[0], "a")
	fetch(t, runners[1], "b")  // now both know the rest
	step := func() time.Time { // of the clock of files
		if err := os.WriteFile(filepath.Join(dir, "clock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "clock"))
		if err != nil {
			t.Fatal(err)
		}
		return info.ModTime()
	}
	for now := step(); !step().After(now); {
	}
	if err := a.Release(); err != nil {
		t.Fatal(err)
	}
	fetch(t, runners[1], "a") // which has come back
	fetch(t, runners[0], "c")
	fetch(t, runners[1], "d") // which the other did not take
	submit(t, runners[0], api.Task{ID: "first", Priority: 9})
	fetch(t, runners[1], "first")
	fetch(t, runners[0], "e")
}
