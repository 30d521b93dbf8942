package spool_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
)

// What a later version has submitted is left to it, told once, and comes back from a
// runner of that version which has died; what is no document at all is buried.
func TestDocumentsOfALaterVersion(t *testing.T) {
	dir := t.TempDir()
	s, log := openLogged(t, dir, rescan)
	crashed := open(t, dir, "crashed")
	write := func(id, text string) { // which has another link in the queue
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "results", id, "task.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"held", "field", "value", "broken", "other"} {
		submit(t, s, api.Task{ID: id})
	}
	fetch(t, crashed, "held")
	write("held", `{"id":"held","command":"true","colour":"blue"}`)
	write("field", `{"id":"field","command":"true","colour":"blue"}`)
	write("value", `{"id":"value","command":"true","priority":11}`)
	write("broken", `{"id":"broken","command"`)
	write("other", `{"id":"another","command":"true"}`)
	crashed.Crash()
	for _, id := range []string{"a", "b"} { // two looks
		submit(t, s, api.Task{ID: id})
		fetch(t, s, id)
	}
	waitFor(t, func() bool { return len(contents(t, dir).Claimed) == 2 })
	submit(t, s, api.Task{ID: "c"})
	fetch(t, s, "c")
	c := contents(t, dir)
	var left []string
	for _, e := range c.Ready {
		left = append(left, e.ID)
	}
	if got := strings.Join(left, " "); got != "held field value" || len(c.Dead) != 2 || c.Dead[0].ID != "broken" || c.Dead[1].ID != "other" {
		t.Errorf("left are %s, want held field value; dead %+v, want broken and other", got, c.Dead)
	}
	for _, id := range left {
		if n := strings.Count(log.String(), `msg="left a task to a newer runner" claim=`+id+" "); n != 1 {
			t.Errorf("told %d times of %s:\n%s", n, id, log.String())
		}
	}
	if err := s.Cancel(t.Context(), "field"); err != nil { // its owner can do that all the same
		t.Error(err)
	}
}

// What a runner of a later version had, under a name that says more, keeps its claim, so
// that another of that version finds it.
func TestANameOfALaterVersionKeepsItsClaim(t *testing.T) {
	dir := t.TempDir()
	crashed := open(t, dir, "crashed")
	submit(t, crashed, api.Task{ID: "held"})
	fetch(t, crashed, "held")
	crashed.Crash()
	held, err := filepath.Glob(filepath.Join(dir, "held", "*-held.json"))
	if err != nil || len(held) != 1 {
		t.Fatalf("held are %v, %v; want one task", held, err)
	}
	claim, name, _ := strings.Cut(filepath.Base(held[0]), "-")
	later := filepath.Join(dir, "held", claim+"-later-"+name)
	if err := os.Rename(held[0], later); err != nil {
		t.Fatal(err)
	}
	s, log := openLogged(t, dir, rescan)
	for _, id := range []string{"a", "b"} { // two looks
		submit(t, s, api.Task{ID: id})
		fetch(t, s, id)
	}
	for _, file := range []string{later, filepath.Join(dir, "held", claim+".lock")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(log.String(), filepath.Base(later)+" has no name that this version knows"); n != 1 {
		t.Errorf("told %d times:\n%s", n, log.String())
	}
}
