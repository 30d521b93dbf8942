// Package older makes the runner of a release of before, for rolling upgrades.
package older

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/studioml/studio-go-runner/e2e/targets"
)

// releases are what a rolling upgrade may begin with, by whether the queue is in a
// server.
var releases = map[bool]string{false: "a5cef6c", true: "a4079e2"}

// build makes the program of a commit at a path.
const build = `dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && git -C "$(git rev-parse --show-toplevel)" archive "$1" | tar -x -C "$dir" &&
make -C "$dir" bin/runner && mv "$dir/bin/runner" "$2.$$" && mv "$2.$$" "$2"`

// Program is that of a release of before, which is made once on a machine.
func Program(ctx context.Context, inServer bool) (program string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	commit := releases[inServer]
	program = filepath.Join(cache, "studio-go-runner", "runner-"+commit)
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	if exec.CommandContext(ctx, "git", "cat-file", "-e", commit).Run() != nil {
		return "", targets.Cannot("needs a release of before: this checkout has no commit " + commit)
	}
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", build, "sh", commit, program)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "GOFLAGS=-trimpath")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the runner of %s: %w: %s", commit, err, out)
	}
	return program, nil
}
