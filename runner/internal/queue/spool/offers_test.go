package spool_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// Offers are those of runners that live, each the newest.
func TestOffers(t *testing.T) {
	dir := t.TempDir()
	open := func(runner string) *spool.Spool {
		t.Helper()
		s, err := spool.Open(dir, spool.Options{Runner: runner})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	owner := open("")
	want := func(runners ...string) {
		t.Helper()
		offers, err := owner.Offers(t.Context())
		names := []string{}
		for _, o := range offers {
			names = append(names, o.Runner+" "+string(o.Phase))
		}
		if slices.Sort(names); err != nil || !cmp.Equal(runners, names) {
			t.Fatalf("offers of %q, error %v; want %q", names, err, runners)
		}
	}
	announce := func(s *spool.Spool, runner string, phase api.Phase) {
		t.Helper()
		if err := s.Announce(t.Context(), api.Offer{Runner: runner, Phase: phase}); err != nil {
			t.Fatal(err)
		}
	}
	want([]string{}...)
	a, b := open("a"), open("b")
	announce(a, "a", api.PhaseSuspended)
	announce(b, "b", api.PhaseRunning)
	announce(a, "a", api.PhaseRunning) // which is shorter
	want("a Running", "b Running")
	// A cleaner removes all of them.
	if err := os.RemoveAll(filepath.Join(dir, "runners")); err != nil {
		t.Fatal(err)
	}
	want([]string{}...)
	announce(b, "b", api.PhaseUnknown)
	want("b Unknown")
	announce(a, "a", api.PhaseRunning)
	// b dies, a ends.
	left, err := filepath.Glob(filepath.Join(dir, "runners", "*"))
	if err != nil || len(left) != 2 {
		t.Fatal(left, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if n := globs(t, dir, "runners/*"); n != 1 {
		t.Errorf("%d offers are left, want that of the other", n)
	}
	want("b Unknown")
	if err := a.Announce(t.Context(), api.Offer{}); err == nil {
		t.Error("a closed queue takes an offer")
	}
	if err := os.WriteFile(filepath.Join(dir, "runners", "offer-dead"), []byte(`{"runner":"dead"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	want("b Unknown")
	if _, err := os.Stat(filepath.Join(dir, "runners", "offer-dead")); err == nil {
		t.Error("the offer of a runner that died is left")
	}
}
