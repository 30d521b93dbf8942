package result_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scarce"
)

// Whatever is left of descriptors when a task has ended: its success stays one, and what
// it has left is stored with it.
func TestNoDescriptorIsNotTheTasksFault(t *testing.T) {
	for free := range 6 {
		s, _, _ := newStore(t)
		a := begin(t, s, "a", 1)
		for _, path := range []string{a.Stdout(), filepath.Join(a.Outputs(), "x")} {
			if err := os.WriteFile(path, []byte("kept"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := res("a", 1)
		r.Outcome = api.Succeeded
		giveBack := scarce.Descriptors(t, free)
		_, err := a.Close(&r, limits)
		_ = a.Settle(&r) // where it can be
		giveBack()
		if err != nil {
			t.Errorf("with %d free: %v", free, err)
		}
		if err := a.Settle(&r); err != nil {
			t.Errorf("with %d free, it is not settled later: %v", free, err)
		}
		if err := a.Commit(r); err != nil {
			t.Errorf("with %d free, it is not stored later: %v", free, err)
		}
		if got, err := s.Read("a", 1); err != nil || got.Outcome != api.Succeeded || got.Reason != res("a", 1).Reason {
			t.Errorf("with %d free, stored is %+v, %v", free, got, err)
		}
		for _, name := range []string{"stdout", "outputs/x"} {
			if text, err := os.ReadFile(filepath.Join(s.Path("a", 1), name)); string(text) != "kept" {
				t.Errorf("with %d free, %s is %q, %v", free, name, text, err)
			}
		}
	}
}

// What was settled counts also when the end has to be told again, for which the caller has
// the result of before: damage that was found late stays found.
func TestSettledOnceIsSettled(t *testing.T) {
	s, _, _ := newStore(t)
	a := begin(t, s, "a", 1)
	if err := os.WriteFile(filepath.Join(filepath.Dir(a.Stdout()), "more"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := res("a", 1)
	r.Outcome = api.Succeeded
	giveBack := scarce.Descriptors(t, 0)
	_, err := a.Close(&r, limits)
	giveBack()
	if err != nil || r.Outcome != api.Succeeded {
		t.Fatalf("closed as %+v, %v, want it to be left to Settle", r, err)
	}
	for range 2 {
		again := r
		if err := a.Settle(&again); err != nil || again.Outcome != api.Failed || !strings.Contains(again.Reason, "removed or changed") {
			t.Errorf("settled as %+v, %v, want a failure", again, err)
		}
	}
}

// The parts of an output that could not be removed, as the disk was out of reach when its
// writer wanted to, are no damage that the task has done.
func TestPartsThatStayed(t *testing.T) {
	s, dir, _ := newStore(t)
	a := begin(t, s, "a", 1)
	if err := os.WriteFile(api.OutputPart(a.Stdout(), 3, 5), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := res("a", 1)
	r.Outcome = api.Succeeded
	if _, err := a.Close(&r, result.Limits{}); err != nil || r.Outcome != api.Succeeded || r.Reason != res("a", 1).Reason {
		t.Errorf("closed as %+v, %v", r, err)
	}
	if err := a.Commit(r); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 3 {
		t.Errorf("stored are %v, want the result and two outputs", got)
	}
}

// A task takes the rights from the files that are kept of it.
func TestNoRightsOnWhatIsKept(t *testing.T) {
	s, dir, work := newStore(t)
	a := begin(t, s, "a", 1)
	for _, path := range []string{a.Stdout(), a.Stderr(), filepath.Join(filepath.Dir(a.Stdout()), "result.json")} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	r := res("a", 1)
	giveBack := scarce.Rights(t, dir, work)
	_, err := a.Close(&r, limits)
	err = errors.Join(err, a.Commit(r))
	giveBack()
	if err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(filepath.Join(s.Path("a", 1), "stdout")); string(text) != "out" {
		t.Errorf("stored is %q, %v", text, err)
	}
}
