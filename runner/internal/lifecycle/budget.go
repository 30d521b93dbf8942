package lifecycle

import "time"

// The times of an exit, in the order in which they are spent. From the signal
// to the end of the process they must fit the pod's terminationGracePeriodSeconds,
// or the kubelet's KILL comes before the runner has given its tasks back.
const (
	// DefaultGrace is how long tasks may go on after a termination signal.
	DefaultGrace = 20 * time.Second
	// DefaultKillDelay is the time between TERM and KILL for what is stopped then.
	DefaultKillDelay = 3 * time.Second
	// AbandonAfter is how much longer than the kill delay a runner waits for
	// tasks that it stopped, before it exits and leaves their requeuing to the
	// others. A process in uninterruptible sleep and an unreachable queue get that far.
	AbandonAfter = 3 * time.Second
	// EndAfter is how long the process takes to end once the exit was ordered. Everything
	// that must be durable is so by then.
	EndAfter = PartsEnd + CloseEnd + DirsEnd + LogEnd
	// PartsEnd is of that for the parts that run side by side, with the pod's last state and
	// the server's last streams; CloseEnd for the queue and the last Events, at the same
	// time; DirsEnd for the runner's own directory; LogEnd for the log.
	PartsEnd = 1250 * time.Millisecond
	CloseEnd = time.Second
	DirsEnd  = 250 * time.Millisecond
	LogEnd   = 500 * time.Millisecond
)

const (
	// forceAfter bounds the clean-up after a second signal.
	forceAfter = 2 * time.Second
	// sameSignal is how close to the first a signal is still that one: some
	// senders signal a process and then its group (R7).
	sameSignal = time.Second
)

// ExitBudget is the longest time from the first signal to the end of the process.
func ExitBudget(grace, killDelay time.Duration) time.Duration {
	return grace + killDelay + AbandonAfter + EndAfter
}

// due reports whether a time has come. If not, wake is that time at the latest.
func due(now, at time.Time, wake *time.Time) bool {
	if !now.Before(at) {
		return true
	}
	*wake = earliest(*wake, at)
	return false
}

// earliest returns the earlier of two times, where zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
