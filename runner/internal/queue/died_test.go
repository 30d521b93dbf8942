package queue_test

import (
	"io/fs"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// What it had printed stays, and whoever took the task back says how it ended.
func died(t *testing.T, f fixture) {
	s := f.Store(t)
	submit(t, f, "a")
	printed := func(n int) string {
		opened, err := s.Files(t.Context(), "a", n)
		if err != nil {
			return err.Error()
		}
		defer opened.Close()
		text, _ := fs.ReadFile(opened, "stdout")
		return string(text)
	}
	const words = "last words"
	kill := f.Doomed(t, "a", 1, lease)
	for end := time.Now().Add(patience); printed(1) != words && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	kill()
	q := f.Consumer(t)
	d := fetchID(t, q, "a")
	begin(t, d, 2)
	ok(t, "release", d.Release()) // and has none
	f.Doomed(t, "a", 0, brief)()  // nor does what has not begun
	if n := attempt(t, fetchID(t, q, "a"), api.Succeeded, api.TaskFinished); n != 3 {
		t.Errorf("attempt %d, want 3", n)
	}
	results, err := s.Results(t.Context(), "a")
	ok(t, "results", err)
	if len(results) != 2 || results[0].Started.IsZero() || results[0].Finished.Before(results[0].Started) {
		t.Fatalf("results %+v, want two, the first with its times", results)
	}
	results[0].Started, results[0].Finished = time.Time{}, time.Time{}
	want := api.Result{Task: "a", Attempt: 1, Outcome: api.MachineFailed, ExitCode: -1, Reason: queue.NoSign, Runner: "doomed", GPUs: []string{"GPU-1"}}
	if diff := cmp.Diff(want, results[0]); diff != "" {
		t.Errorf("the result of the attempt that died (-want +got):\n%s", diff)
	}
	if got := printed(1); got != words {
		t.Errorf("it has printed %q, want %q", got, words)
	}
}
