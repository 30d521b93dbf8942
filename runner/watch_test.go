package main

import (
	"testing"
	"testing/synctest"
	"time"
)

// Who waits asks rarely what takes long to answer. An outage that was sat out is no such
// answer: after it, what comes is heard of soon.
func TestPause(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]time.Duration{
		0: 500 * time.Millisecond, 200 * time.Millisecond: 2 * time.Second, time.Hour: 10 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			asked := time.Now()
			time.Sleep(took)
			paused := time.Now()
			if err := pause(t.Context(), asked); err != nil || time.Since(paused) != want {
				t.Errorf("after an answer that took %s: a pause of %s, error %v; want %s", took, time.Since(paused), err, want)
			}
		})
	}
}
