package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// waiting is how many tasks wait, as metrics say.
func waiting(t *testing.T, dir string) int {
	t.Helper()
	n, err := spool.Look(dir).Length(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n[api.TaskWaiting]
}

// look lets a runner look for work that it does not find.
func look(t *testing.T, s *spool.Spool, serves func(api.Resources) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*rescan)
	defer cancel()
	if d, err := s.Fetch(ctx, serves); d != nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("fetched %v, %v", d, err)
	}
}

// What people put among the tasks, or a newer version, is no work that waits. It stays,
// and is told once, of classes, too, that nobody serves.
func TestStraysAmongTasks(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	submit(t, s, api.Task{ID: "a"})
	submit(t, s, api.Task{ID: "b", Resources: api.Resources{GPUs: 1}})
	var strays []string
	for _, task := range globbed(t, dir, "ready/*/*.json") {
		bucket, name := filepath.Split(task)
		spent := strings.LastIndex(name, "-0-0-")
		for _, stray := range []string{name + "~", "#" + name + "#", "later-" + name, strings.TrimSuffix(name, ".json"), name[:len(name)-len("-a.json")] + ".json", name[:spent] + "-1-0-" + name[spent+5:], strings.TrimSuffix(name, ".json") + "+.json"} {
			strays = append(strays, bucket+stray)
		}
	}
	for _, stray := range strays {
		if err := os.WriteFile(stray, []byte(`{"id":"a","command":"true"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := waiting(t, dir); n != 2 {
		t.Errorf("%d tasks wait, want 2", n)
	}
	for _, id := range []string{"a", "b"} {
		if err := fetch(t, s, id).Ack(); err != nil {
			t.Fatal(err)
		}
	}
	if n := waiting(t, dir); n != 0 {
		t.Errorf("%d tasks wait, want none", n)
	}
	look(t, s, anyClass)
	other, tidied := openLogged(t, dir, rescan)
	other.Tidy(60 * rescan)
	look(t, other, func(api.Resources) bool { return false })
	look(t, other, func(api.Resources) bool { return false })
	for _, stray := range strays {
		if _, err := os.Stat(stray); err != nil {
			t.Error(err)
		}
		for by, text := range map[string]string{"who takes tasks": log.String(), "who takes none": tidied.String()} {
			if n := strings.Count(text, `msg="left a file in the queue alone" claim=`+stray+" "); n != 1 {
				t.Errorf("%s told %d times of %s", by, n, stray)
			}
		}
	}
	if !strings.Contains(log.String(), "move it away, and put tasks into the queue with the command submit") {
		t.Errorf("nothing of what to do:\n%s", log)
	}
	if c := contents(t, dir); len(c.Ready) != 0 || len(c.Dead) != 0 {
		t.Errorf("ready %+v, dead %+v, want none", c.Ready, c.Dead)
	}
}

// A task or a bucket has one name only.
func TestOtherNames(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "")
	task := func(bucket string) string { return bucket[:21] + "-0000000000000001-0-0-0-0-0-0-a.json" }
	const bucket = firstBucket
	other := []string{"010" + bucket[2:], bucket[:3] + bucket[4:], bucket[:3] + "0" + bucket[3:], bucket[:20] + "00-0-0", bucket + "-", bucket + "-0", "+1" + bucket[2:], bucket[:24]}
	for _, path := range other {
		for _, path := range []string{path + "/" + task(bucket), bucket + "/" + strings.Replace(task(bucket), bucket[:21], path[:len(path)-4], 1)} {
			path = filepath.Join(dir, "ready", path)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := waiting(t, dir); n != 0 {
		t.Errorf("%d tasks wait, want none", n)
	}
	drop(t, dir, task(bucket), nil)
	if n := waiting(t, dir); n != 1 {
		t.Errorf("%d tasks wait, want one", n)
	}
}

// A damaged copy of a task is buried, and that changes nothing of the task: neither while
// it runs, nor when its runner dies, nor after it has succeeded.
func TestADamagedCopy(t *testing.T) {
	dir, id := t.TempDir(), strings.Repeat("a", 128) // the longest
	s, crashed := open(t, dir, "r"), open(t, dir, "crashed")
	submit(t, s, api.Task{ID: id})
	begin(t, fetch(t, crashed, id))
	copied := func(next string, state api.TaskState) {
		t.Helper()
		drop(t, dir, entryName(0, 0, 0, id), []byte(`{"id":"a","comm`))
		submit(t, s, api.Task{ID: next})
		if err := fetch(t, s, next).Ack(); err != nil {
			t.Fatal(err)
		}
		if all, err := s.List(t.Context(), id); err != nil || all[0].State != state {
			t.Errorf("a is %+v, %v, want %s", all, err, state)
		}
		c := contents(t, dir)
		if len(c.Dead) != 1 || c.Dead[0].Document != `{"id":"a","comm` {
			t.Errorf("dead letters %+v, want one, of the copy", c.Dead)
		}
	}
	copied("b", api.TaskRunning)
	crashed.Crash()
	d := fetch(t, s, id)
	if n, err := d.Begin(nil); n != 2 || err != nil {
		t.Fatalf("attempt %d, %v", n, err)
	}
	if err := finish(d, 2, api.Succeeded); err != nil {
		t.Fatal(err)
	}
	copied("c", api.TaskFinished)
}

// A file that was mended after it was read is not buried.
func TestAFileThatWasMended(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	drop(t, dir, entryName(0, 0, 0, "a"), []byte(`{"id":"a","command":"true"}`))
	path := filepath.Join(dir, "ready", firstBucket, entryName(0, 0, 0, "a"))
	if err := s.TakeRead(path, []byte(`{"id":"a","comm`)); err != nil {
		t.Error(err)
	}
	if c := contents(t, dir); len(c.Dead) != 0 {
		t.Errorf("dead %+v, want none", c.Dead)
	}
	fetch(t, s, "a")
}

// What cannot be buried now stays where it was.
func TestAFileThatCannotBeBuried(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	name := entryName(0, 0, 0, "a")
	drop(t, dir, name, []byte("x"))
	back := instead(t, dir, "dead")
	if d, err := s.Fetch(t.Context(), anyClass); d != nil || err == nil {
		t.Fatalf("fetched %v, %v", d, err)
	}
	if n := globs(t, dir, "ready/"+firstBucket+"/"+name); n != 1 {
		t.Errorf("%d files are where it was, want it", n)
	}
	back()
	look(t, s, anyClass)
	if c := contents(t, dir); len(c.Dead) != 1 || c.Dead[0].ID != "a" || c.Dead[0].Document != "x" {
		t.Errorf("dead %+v, want a", c.Dead)
	}
}

// Names of files have no sign, and clocks of people may say anything.
func TestATaskThatExpiredLongAgo(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a", Expires: api.Time{Time: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)}})
	look(t, s, anyClass)
	if c := contents(t, dir); len(c.Dead) != 1 || !strings.HasPrefix(c.Dead[0].Reason, "it expired at") {
		t.Errorf("dead %+v, want that it expired", c.Dead)
	}
}

// Some editors rename a file, and write another in its place. The task has ended all the
// same when that has.
func TestABackupOfATask(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	for _, id := range []string{"a", "b"} {
		submit(t, s, api.Task{ID: id})
		names := globbed(t, dir, "ready/*/*-"+id+".json")
		text, err := os.ReadFile(names[0])
		if err := errors.Join(err, os.Rename(names[0], names[0]+"~"), os.WriteFile(names[0], text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	state := func(want api.TaskState) {
		t.Helper()
		if all, err := spool.Look(dir).List(t.Context(), "a"); err != nil || all[0].State != want {
			t.Errorf("a is %+v, %v, want %s", all, err, want)
		}
	}
	state(api.TaskWaiting)
	end(t, s, "a", api.Succeeded)
	state(api.TaskFinished)
	if err := s.Again(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	state(api.TaskWaiting)
	fetch(t, s, "b")
	d := fetch(t, s, "a")
	state(api.TaskRunning)
	if err := finish(d, begin(t, d), api.Succeeded); err != nil {
		t.Error(err)
	}
	state(api.TaskFinished)

	// Without the backup a second name would say that it is on its way back, to run again.
	names := globbed(t, dir, "ready/*/*-a.json~")
	if err := os.Rename(names[0], filepath.Join(dir, "tmp", "elsewhere")); err != nil {
		t.Fatal(err)
	}
	state(api.TaskWaiting)
}
