package embedded

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// HideQueue takes the queue away from the runners. It is still there for
// submits: the outage is the runners'.
func (e *env) HideQueue() error {
	if err := os.Remove(e.spool()); err != nil {
		return fmt.Errorf("hide queue: %w", err)
	}
	return nil
}

// RestoreQueue gives it back. What somebody has put in its place is an error: it
// would be lost.
func (e *env) RestoreQueue() error {
	err := os.Symlink(e.Layout.Spool, e.spool())
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("restore queue: it is not hidden, or a runner has made a new queue at %s", e.spool())
	}
	return err
}
