package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Somebody removes the claim of a living runner: it takes another one, once,
// says so, and holds nothing of the old one open.
func TestAClaimThatIsGone(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	gone := func(id string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(dir, "claims")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "claims"), 0o755); err != nil {
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
	wantLog(t, log, `level=WARN msg="claim directory is gone, made a new one" old=`)
	before := count()
	for _, id := range []string{"b", "c", "d", "e"} {
		gone(id)
	}
	if claims, err := os.ReadDir(filepath.Join(dir, "claims")); err != nil || len(claims) != 1 {
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
	claims := filepath.Join(dir, "claims")
	if err := os.Rename(claims, claims+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(claims, 0o755); err != nil {
		t.Fatal(err)
	}
	submit(t, s, api.Task{ID: "b"})
	fetch(t, s, "b")
	old, err := filepath.Glob(claims + ".away/*")
	if err != nil || len(old) != 1 {
		t.Fatalf("claims %q, %v", old, err)
	}
	if err := os.Rename(old[0], filepath.Join(claims, filepath.Base(old[0]))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if c := contents(t, dir); len(c.Ready) != 2 || len(c.Claimed) != 0 {
		t.Errorf("ready %+v, claimed %+v, want both tasks ready", c.Ready, c.Claimed)
	}
}

// What cannot be taken back is told, and does not keep a runner from its work;
// what was taken back half is.
func TestClaimsInDisorder(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, "")
	if err := os.MkdirAll(filepath.Join(dir, "claims", "odd", "lock"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "claims", "half"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "claims", "half", "lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s, log := openLogged(t, dir, time.Hour)
	submit(t, s, api.Task{ID: "a"})
	fetch(t, s, "a")
	if text := log.String(); !strings.Contains(text, `level=WARN msg="could not take back a claim" claim=odd`) || strings.Contains(text, "claim=half") {
		t.Errorf("log %s, want that odd could not be taken back, and nothing of half", text)
	}
	if _, err := os.Stat(filepath.Join(dir, "claims", "half")); err == nil {
		t.Error("half of a claim is still there")
	}
}

// Somebody has removed the directory of its tasks: there is nothing to give back.
func TestAClaimWithoutTasksIsClosed(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	tasks, err := filepath.Glob(filepath.Join(dir, "claims", "*", "tasks"))
	if err != nil || len(tasks) != 1 {
		t.Fatalf("directories %q, %v", tasks, err)
	}
	if err := os.Remove(tasks[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A spool that is out of reach for hours is tried again and again.
func TestAFetchThatFailsHoldsNoFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "r")
	if err := os.RemoveAll(filepath.Join(dir, "claims")); err != nil {
		t.Fatal(err)
	}
	fail := func() int {
		if _, err := s.Fetch(t.Context(), anyTask); err == nil {
			t.Fatal("claimed in no place")
		}
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	before, after := fail(), 0
	for range 5 {
		after = fail()
	}
	if after > before+1 {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}
