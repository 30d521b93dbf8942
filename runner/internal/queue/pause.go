package queue

import (
	"math/rand/v2"
	"time"
)

// The pause before a task that failed may start again: it doubles with each
// attempt that is held against the task, and differs by up to a half, so that
// tasks which failed together do not come back together.
const (
	FirstPause   = time.Second
	LongestPause = 5 * time.Minute
)

// Pause is how long a task waits that has failed so often, once at least.
func Pause(failed int) time.Duration {
	longest := min(FirstPause<<min(failed-1, 20), LongestPause)
	return longest - rand.N(longest/2)
}
