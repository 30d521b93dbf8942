package tree

import (
	"context"
	"os"
)

// RemoveUntil is Remove that ends with ctx, between two files. What is left then is for a
// later call.
func RemoveUntil(ctx context.Context, dir string) error {
	if root := open(dir); root != nil { // else it is a file or a link, or Remove says why
		empty(ctx, root)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return Remove(dir)
}

// open opens a directory, and nothing that a link in its place leads to.
func open(dir string) *os.Root {
	here, err := os.Lstat(dir)
	if err != nil || !here.IsDir() {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	if opened, err := root.Stat("."); err != nil || !os.SameFile(here, opened) {
		root.Close()
		return nil
	}
	return root
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
