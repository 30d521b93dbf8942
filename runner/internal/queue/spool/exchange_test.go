package spool_test

import (
	"os"
	"path/filepath"
	"testing"

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
