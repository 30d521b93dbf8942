package engine

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// The budgets of what a scenario waits for, on a healthy machine. They are for
// failing with a clear word, not for measuring: each is far above what the
// thing takes.
const (
	// clusterBudget is for a call of the API server, conflicts included.
	clusterBudget = 20 * time.Second
	// runnerBudget is for a runner to start.
	runnerBudget = 30 * time.Second
	// queueBudget is for a look into the queue, or a submit.
	queueBudget = 20 * time.Second
	// outageBudget is for stopping or starting an API server.
	outageBudget = 90 * time.Second
	// awaitBudget is for the conditions of an await. A runner that cannot read
	// the maps before its exit gives up after 30 s, which must fit.
	awaitBudget = 50 * time.Second
)

// timeFactor stretches the budgets on machines that are slow or busy.
var timeFactor = func() float64 {
	if f, err := strconv.ParseFloat(os.Getenv("E2E_TIME_FACTOR"), 64); err == nil && f > 0 {
		return f
	}
	return 1
}()

// bounded calls do with a context that ends after the budget.
func (p *play) bounded(budget time.Duration, do func(context.Context) error) error {
	budget = time.Duration(float64(budget) * timeFactor)
	ctx, cancel := context.WithTimeoutCause(p.ctx, budget, fmt.Errorf("it took longer than %s", budget))
	defer cancel()
	err := do(ctx)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}
