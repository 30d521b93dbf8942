package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// patient is a queue for who waits, for hours perhaps: while it does not answer, its
// tasks go on, and so does the waiting.
type patient struct {
	queue.Store
	errOut io.Writer
}

// List implements queue.Store.
func (p patient) List(ctx context.Context, ids ...string) ([]api.TaskStatus, error) {
	return again(ctx, p.errOut, away, func() ([]api.TaskStatus, error) { return p.Store.List(ctx, ids...) })
}

// Results implements queue.Store.
func (p patient) Results(ctx context.Context, id string) ([]api.Result, error) {
	return again(ctx, p.errOut, away, func() ([]api.Result, error) { return p.Store.Results(ctx, id) })
}

// Files implements queue.Store.
func (p patient) Files(ctx context.Context, id string, attempt int) (queue.Files, error) {
	return again(ctx, p.errOut, away, func() (queue.Files, error) { return p.Store.Files(ctx, id, attempt) })
}

// Offers implements queue.Offers as far as who waits needs it.
func (p patient) Offers(ctx context.Context) ([]api.Offer, error) {
	if known, ok := p.Store.(queue.Offers); ok {
		return known.Offers(ctx)
	}
	return nil, errors.ErrUnsupported
}

func away(err error) bool { return errors.Is(err, queue.ErrAway) }

// again asks until there is an answer, and says once why there is none.
func again[T any](ctx context.Context, errOut io.Writer, away func(error) bool, ask func() (T, error)) (T, error) {
	for said := false; ; said = true {
		answer, err := ask()
		if !away(err) {
			return answer, err
		}
		if !said && ctx.Err() == nil {
			fmt.Fprintf(errOut, "runner: %v; asking again until it answers\n", err)
		}
		if err := pause(ctx, time.Now()); err != nil {
			return answer, err
		}
	}
}
