package embedded

import (
	"context"
	"fmt"
	"os"

	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Sweep removes what a process that may have been killed has left of its places:
// the runners and tasks of the directory dir, which was Config.TempDir, and then all
// that is in it. The kernel ends the control plane; until it has, files may come anew.
func Sweep(ctx context.Context, dir string) error {
	if err := killLeftovers(ctx, dir); err != nil {
		return err
	}
	var last error
	if err := place.Poll(ctx, func() bool { last = os.RemoveAll(dir); return last == nil }); err != nil {
		return fmt.Errorf("remove %s: %w (%w)", dir, err, last)
	}
	return nil
}
