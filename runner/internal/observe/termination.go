package observe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// TerminationMessage leaves the last sentence of the process where the kubelet
// looks for it. The kubelet makes the file before it starts the container;
// where there is none, there is nobody to read it, so none is made unless
// create says so.
func TerminationMessage(path, message string, create bool) error {
	flags := os.O_WRONLY | os.O_TRUNC | syscall.O_NONBLOCK // a pipe that nobody reads must not hold up the exit
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_ = f.SetWriteDeadline(time.Now().Add(time.Second)) // files have none and need none
		_, err = f.WriteString(message)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("write termination message: %w", err)
	}
	return nil
}
