package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/internal/queue"
)

// poll looks again and again, until that was the last look or failed. Who waits, for
// hours perhaps, goes on through what passes, as an outage; that is said once for each.
func poll(ctx context.Context, errOut io.Writer, passes func(error) bool, look func() (last bool, err error)) error {
	for said := false; ; {
		asked := time.Now()
		last, err := look()
		switch {
		case last:
			return err
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			said = false
		case !passes(err):
			return err
		default:
			if !said {
				fmt.Fprintf(errOut, "runner: %v; asking again until it answers\n", err)
			}
			said, asked = true, time.Now()
		}
		if err := pause(ctx, asked); err != nil {
			return err
		}
	}
}

// away says whether a queue does not answer. Its tasks go on, and so does who waits.
func away(err error) bool { return errors.Is(err, queue.ErrAway) }

// pause waits until somebody may be asked again: soon, unless the answer, which was
// asked for at asked, took long. The error is that ctx has ended.
func pause(ctx context.Context, asked time.Time) error {
	const soon, longest, share = 500 * time.Millisecond, 10 * time.Second, 10
	select {
	case <-time.After(min(longest, max(soon, share*time.Since(asked)))):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errUnread ends a command that watches when nobody reads what it prints. Who reads
// has seen enough, so it is no failure.
var errUnread = errors.New("nobody reads the output any more")

// whileRead returns a context that ends when nobody reads the output any more, as
// after head -n 1: what is quiet would not tell by an error for hours. Its goroutine
// ends with the reader, or with the process. Files always have a reader.
func whileRead(ctx context.Context, out io.Writer) context.Context {
	file, ok := out.(*os.File)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(ctx)
	polled := []unix.PollFd{{Fd: int32(file.Fd())}} // no events are asked for: errors and hang-ups are told anyway
	go func() {
		for err := error(unix.EINTR); err == unix.EINTR; _, err = unix.Poll(polled, -1) {
		}
		cancel(errUnread)
	}()
	return ctx
}
