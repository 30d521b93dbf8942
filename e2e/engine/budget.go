package engine

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"
)

// The budgets of what a scenario waits for, on a healthy machine. They are for
// failing with a clear word, not for measuring: each is far above what the thing
// takes. What a step does has the scenario's timeout.
const (
	// stateBudget is from a change of a map to what a runner says of it. After
	// an outage the runner may try again only 5 s later, twice that with jitter.
	stateBudget = 30 * time.Second
	// silenceBudget is for a runner to say that it hears nothing from the API
	// server, which takes a minute at most (R4).
	silenceBudget = 75 * time.Second
	// taskBudget is for tasks to be started, to end, and to leave the queue. Those of a
	// runner that was killed may have to wait for the end of its lease, of 30 s, and for
	// the next look of another, up to 30 s later.
	taskBudget = 90 * time.Second
	// exitBudget is for a runner to end. One that cannot read the maps before
	// its exit gives up after 30 s (R6), which must fit; so must the grace
	// period of 25 s and what follows it.
	exitBudget = 50 * time.Second
	// expectBudget is for what has happened to be told: tasks, runners and the
	// queue speak over connections of their own, each with its own delay.
	expectBudget = 15 * time.Second
)

// Stretch multiplies a time with E2E_TIME_FACTOR, for slow and busy machines.
func Stretch(d time.Duration) time.Duration {
	if f, err := strconv.ParseFloat(os.Getenv("E2E_TIME_FACTOR"), 64); err == nil && f > 0 {
		return time.Duration(float64(d) * f)
	}
	return d
}

// errSlow is the cause of the end of a budget.
var errSlow = errors.New("it took too long")

// waited says how long something was waited for, and why no longer if that was
// not its own budget.
func waited(ctx context.Context, begun time.Time) string {
	text := "waited " + time.Since(begun).Round(100*time.Millisecond).String()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSlow) {
		text += ", then " + cause.Error()
	}
	return text
}
