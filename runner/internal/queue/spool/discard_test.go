package spool_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file that was no task is exchanged, before it is buried, for one that is: what has
// the name by then counts.
func TestWhatIsBuriedIsWhatWasRead(t *testing.T) {
	const name = "00000000000000000001-0-0-a.json"
	for document, dead := range map[string]int{`{"id":"a","command":"true"}`: 0, `{"id":"a"}`: 1} {
		const read = `{"id":"a"}`
		dir := t.TempDir()
		s := open(t, dir, "r")
		drop(t, dir, name, []byte(document))
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "tasks", name), old, old); err != nil {
			t.Fatal(err)
		}
		if err := s.Bury(name, read); err != nil {
			t.Fatal(err)
		}
		c := contents(t, dir)
		if len(c.Dead) != dead || len(c.Ready) != 1-dead || len(c.Claimed) != 0 {
			t.Errorf("with %s: dead %+v, ready %+v, claimed %+v; want %d dead", document, c.Dead, c.Ready, c.Claimed, dead)
		}
	}
}
