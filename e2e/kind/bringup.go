package kind

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Action is a step of bringing something up, named for people.
type Action struct {
	Name string
	Do   func(context.Context) error
}

// BringUp does the actions in their order until one fails. It says on out how
// long each took.
func BringUp(ctx context.Context, out io.Writer, actions ...Action) error {
	for _, a := range actions {
		began := time.Now()
		if err := a.Do(ctx); err != nil {
			fmt.Fprintf(out, "failed after %6s: %s\n", since(began), a.Name)
			return fmt.Errorf("%s: %w", a.Name, err)
		}
		fmt.Fprintf(out, "done in %6s: %s\n", since(began), a.Name)
	}
	return nil
}

// since is how long it took, for people.
func since(began time.Time) time.Duration { return time.Since(began).Round(100 * time.Millisecond) }
