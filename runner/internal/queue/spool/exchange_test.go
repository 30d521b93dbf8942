package spool_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Somebody removes the claim of a living runner: it takes another one, once,
// says so, and holds nothing of the old one open.
func TestAClaimThatIsGone(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	count := fileCounter(t)
	gone := func(id string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "held")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "held"), 0o755); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			submit(t, s, api.Task{ID: id})
			if err := fetch(t, s, id).Ack(); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone("a")
	wantLog(t, log, `level=WARN msg="a claim is gone, made a new one" old=`)
	before := count()
	for _, id := range []string{"b", "c", "d", "e"} {
		gone(id)
	}
	if claims, err := os.ReadDir(filepath.Join(dir, "held")); err != nil || len(claims) != 1 {
		t.Errorf("claims %v, %v, want one", claims, err)
	}
	if after := count(); after > before+1 {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// Its deliveries may come back into reach, and go back to the queue at the end.
func TestAClaimThatComesBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	fetch(t, s, "a")
	claims := filepath.Join(dir, "held")
	if err := os.Rename(claims, claims+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(claims, 0o755); err != nil {
		t.Fatal(err)
	}
	submit(t, s, api.Task{ID: "b"})
	fetch(t, s, "b")
	old, err := filepath.Glob(claims + ".away/*")
	if err != nil || len(old) != 2 {
		t.Fatalf("a claim is %q, %v", old, err)
	}
	for _, file := range old {
		if err := os.Rename(file, filepath.Join(claims, filepath.Base(file))); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c := contents(t, dir); len(c.Ready) != 2 || len(c.Claimed) != 0 {
		t.Errorf("ready %+v, claimed %+v, want both tasks ready", c.Ready, c.Claimed)
	}
	if left := globs(t, dir, "held/*") + globs(t, dir, "work/*"); left > 0 {
		t.Errorf("%d files are left of claims", left)
	}
}

// What cannot be taken back is told once, and again after it could; it does not
// keep a runner from its work. What was taken back half is.
func TestClaimsInDisorder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "")
	odd, half := filepath.Join(dir, "held", "odd"), filepath.Join(dir, "held", "half.lock")
	way := filepath.Join(dir, "ready", firstBucket)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disorder := func() {
		t.Helper()
		write(way, "") // where its directory should be
		write(odd+"-"+entryName(0, 0, 0, "odd"), `{"id":"odd","command":"true"}`)
		write(odd+".lock", "")
	}
	write(half, "")
	disorder()
	s, log := openLogged(t, dir, rescan)
	told := func(times int) {
		t.Helper()
		for _, id := range []string{"a", "b"} { // two looks at the claims
			other := open(t, dir, "other")
			submit(t, other, api.Task{ID: id})
			fetch(t, other, id)
			other.Crash()
			if err := fetch(t, s, id).Ack(); err != nil {
				t.Fatal(err)
			}
			text := log.String()
			if n := strings.Count(text, `level=WARN msg="could not take back a claim" claim=odd`); n != times || strings.Contains(text, "claim=half") {
				t.Errorf("told %d times that odd could not be taken back, want %d, and nothing of half:\n%s", n, times, text)
			}
		}
	}
	told(1)
	if _, err := os.Stat(half); err == nil {
		t.Error("half of a claim is still there")
	}
	if err := os.Remove(way); err != nil {
		t.Fatal(err)
	}
	if err := fetch(t, s, "odd").Ack(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(way); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	disorder()
	told(2)
}

// A claim is used again as long as all of it is there, and nothing else.
func TestAClaimIsUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	last := ""
	use := func(id string, same bool, after func(claim string) error) {
		t.Helper()
		submit(t, s, api.Task{ID: id})
		d := fetch(t, s, id)
		work, _ := d.Work()
		claim := filepath.Dir(work)
		if (claim == last) != same {
			t.Errorf("%s: the claim %s after %s, want the same: %t", id, claim, last, same)
		}
		if _, err := os.Stat(last); err == nil && !same && last != "" {
			t.Errorf("%s: the claim before is still there", id)
		}
		last = claim
		if err := errors.Join(after(claim), d.Ack()); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(string) error { return nil }
	use("first", false, nothing)
	use("again", true, func(claim string) error { return os.WriteFile(filepath.Join(claim, "attempt", "left"), nil, 0o644) })
	use("something-was-left", false, func(claim string) error { return os.Remove(filepath.Join(dir, "held", filepath.Base(claim)+".lock")) })
	use("the-lock-was-removed", false, nothing)
	use("last", true, nothing)
}

// Somebody has removed the directory of its attempts.
func TestAClaimWithoutADirectoryIsClosed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	tasks, err := filepath.Glob(filepath.Join(dir, "work", "*"))
	if err != nil || len(tasks) != 1 {
		t.Fatalf("directories %q, %v", tasks, err)
	}
	if err := os.RemoveAll(tasks[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Somebody has removed the lock of a claim: nobody takes the task from the runner that
// has it; after that has died, people are told what to do, and it works.
func TestTheLockIsRemoved(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	crashed := open(t, dir, "crashed")
	submit(t, s, api.Task{ID: "a"})
	fetch(t, crashed, "a")
	locks, err := filepath.Glob(filepath.Join(dir, "held", "*.lock"))
	for _, lock := range locks {
		err = errors.Join(err, os.Remove(lock))
	}
	if err != nil || len(locks) == 0 {
		t.Fatalf("locks %q, %v", locks, err)
	}
	submit(t, s, api.Task{ID: "b"})
	fetch(t, s, "b")
	crashed.Crash()
	waitFor(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), rescan)
		defer cancel()
		if d, err := s.Fetch(ctx, anyClass); d != nil || err == nil {
			t.Fatalf("fetched %v, %v", d, err)
		}
		return strings.Contains(log.String(), "could not take back a task")
	})
	text := log.String()
	to := text[strings.Index(text, dir+"/ready/"):]
	to = to[:strings.IndexAny(to, "\" \n")]
	from, err := filepath.Glob(filepath.Join(dir, "held", "*-"+filepath.Base(to)))
	if err != nil || len(from) != 1 {
		t.Fatalf("files %q, %v", from, err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(from[0], to)); err != nil {
		t.Fatal(err)
	}
	fetch(t, s, "a")
}

// Tasks run elsewhere than the runner.
func TestARelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "spool", "r")
	submit(t, s, api.Task{ID: "a"})
	if work, _ := fetch(t, s, "a").Work(); !filepath.IsAbs(work) {
		t.Errorf("the task's directory is %s, want an absolute path", work)
	}
}

// A spool that is out of reach for hours is tried again and again.
func TestAFetchThatFailsHoldsNoFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	submit(t, s, api.Task{ID: "a"})
	if err := os.RemoveAll(filepath.Join(dir, "held")); err != nil {
		t.Fatal(err)
	}
	count := fileCounter(t)
	fail := func() int {
		if _, err := s.Fetch(t.Context(), anyClass); err == nil {
			t.Fatal("claimed in no place")
		}
		return count()
	}
	before, after := fail(), 0
	for range 5 {
		after = fail()
	}
	if after > before+1 {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// A claim is there before it is locked. Who takes its lock then for that of a dead
// runner removes it, and nobody would ever give back what is in it.
func TestAClaimIsMadeWhileOthersLook(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir, "r"), open(t, dir, "other")
	end := make(chan struct{})
	var others sync.WaitGroup
	for range 2 {
		others.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					other.Reclaim()
				}
			}
		})
	}
	for range 3000 {
		if locked, err := s.Claim(); err != nil || !locked {
			t.Errorf("a claim is made, and its lock is seen: %v, %v", locked, err)
			break
		}
	}
	close(end)
	others.Wait()
}

// Another runner has taken the last task of a bucket, and removed that.
func TestTheBucketIsGoneAsWell(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	drop(t, dir, entryName(0, 0, 0, "a"), []byte(`{"id":"a","command":"true"}`))
	file := filepath.Join(dir, "ready", firstBucket, entryName(0, 0, 0, "a"))
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeRead(file, []byte(`{"id":"a","command":"true"}`)); err != nil {
		t.Errorf("the task is gone, which is no error: %v", err)
	}
	submit(t, s, api.Task{ID: "b"})
	fetch(t, s, "b")
	if text := log.String(); strings.Contains(text, "level=WARN") {
		t.Errorf("the log has\n%s", text)
	}
}
