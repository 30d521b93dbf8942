package docker

import (
	"context"
	"io"
)

// EnsureAt is Ensure for a daemon in the directory run, with no regard to the
// user's.
func EnsureAt(ctx context.Context, run string, keep bool, progress io.Writer) (stop func() error, err error) {
	return place{run: run, machine: func(context.Context) ([]string, error) { return nil, nil }}.ensure(ctx, keep, progress)
}
