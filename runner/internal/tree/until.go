package tree

import (
	"context"
	"os"
)

// RemoveUntil is Remove that ends with ctx, between two files. What is left then is for a
// later call.
func RemoveUntil(ctx context.Context, dir string) error {
	if root, err := os.OpenRoot(dir); err == nil { // else it is a file, or Remove says why
		empty(ctx, root)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return Remove(dir)
}

// empty closes a directory, and before that removes what it can of what is in it.
func empty(ctx context.Context, dir *os.Root) {
	defer dir.Close()
	const some = 1000 // names at a time: there may be millions
	f, err := dir.Open(".")
	if err != nil {
		return
	}
	defer f.Close()
	for {
		entries, _ := f.ReadDir(some)
		for _, e := range entries {
			if ctx.Err() != nil {
				return
			}
			if e.IsDir() {
				dir.Chmod(e.Name(), 0o700) // before it is read
				if sub, err := dir.OpenRoot(e.Name()); err == nil {
					empty(ctx, sub)
				}
			}
			dir.Remove(e.Name())
		}
		if len(entries) == 0 {
			return
		}
	}
}
