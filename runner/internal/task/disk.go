package task

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
)

// diskPause is how long nobody looks at what a task's directory takes. A look at many
// files is followed by a longer pause, so that it costs a twentieth of a processor
// at most.
var diskPause = 2 * time.Second

// limitDisk returns a context that ends with parent, or with a breach when the files
// in dir take more than limit; 0 is no limit. What the task fills in two seconds is
// not bounded, nor are files that it has removed and holds open.
func limitDisk(parent context.Context, dir string, limit int64) (ctx context.Context, stop func()) {
	if limit <= 0 {
		return parent, func() {}
	}
	ctx, cancel := context.WithCancelCause(parent)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for pause := diskPause; ; {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			begin := time.Now()
			if size := takes(ctx, dir); size > limit {
				const text = "the files in its directory took %d bytes, of the %d that --disk-limit allows"
				cancel(breach{api.Failed, fmt.Sprintf(text, size, limit)})
			}
			pause = max(diskPause, 20*time.Since(begin))
		}
	}()
	return ctx, func() { cancel(nil); <-ended }
}

// takes is the room of all files below dir. A file with several names counts once,
// and what cannot be read does not.
func takes(ctx context.Context, dir string) (size int64) {
	filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
		var s unix.Stat_t
		if unix.Lstat(path, &s) == nil {
			size += s.Blocks * 512 / int64(max(s.Nlink, 1)) // some file systems do not count
		}
		return ctx.Err()
	})
	return size
}
