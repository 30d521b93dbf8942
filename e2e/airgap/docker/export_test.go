package docker

import "context"

// EnsureAt is Ensure for a daemon in the directory run, with no regard to the
// user's.
func EnsureAt(ctx context.Context, run string, o Options) (*Docker, error) {
	return place{run: run, machine: func(context.Context) ([]string, error) { return nil, nil }}.ensure(ctx, o)
}
