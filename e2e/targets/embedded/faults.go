package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/studioml/studio-go-runner/e2e/scenario"
)

// An env has the methods of all faults, so that one type will do; those that
// its scenario did not ask for refuse.

// lacks is the error of a fault that the scenario did not ask for.
func (e *env) lacks(need scenario.Need) error {
	return fmt.Errorf("scenario %q does not name the need %s", e.isolation.Name, need)
}

// StopAPIServer stops the scenario's own API server.
func (e *env) StopAPIServer(ctx context.Context) error {
	if e.plane == nil {
		return e.lacks(scenario.NeedAPIServer)
	}
	return e.plane.StopAPIServer(ctx)
}

// StartAPIServer starts it again.
func (e *env) StartAPIServer(ctx context.Context) error {
	if e.plane == nil {
		return e.lacks(scenario.NeedAPIServer)
	}
	return e.plane.StartAPIServer(ctx)
}

// CutNetwork cuts the runners off from the API server.
func (e *env) CutNetwork() error {
	if e.proxy == nil {
		return e.lacks(scenario.NeedNetwork)
	}
	return e.proxy.CutNetwork()
}

// RestoreNetwork connects them again.
func (e *env) RestoreNetwork() error {
	if e.proxy == nil {
		return e.lacks(scenario.NeedNetwork)
	}
	return e.proxy.RestoreNetwork()
}

// LimitConnections ends each connection of the runners when it is d old.
func (e *env) LimitConnections(d time.Duration) error {
	if e.proxy == nil {
		return e.lacks(scenario.NeedNetwork)
	}
	return e.proxy.LimitConnections(d)
}

// HideQueue takes the queue away from the runners.
func (e *env) HideQueue() error {
	if !e.needs(scenario.NeedQueueOutage) {
		return e.lacks(scenario.NeedQueueOutage)
	}
	return e.spool.hide()
}

// RestoreQueue gives it back.
func (e *env) RestoreQueue() error {
	if !e.needs(scenario.NeedQueueOutage) {
		return e.lacks(scenario.NeedQueueOutage)
	}
	return e.spool.restore()
}
