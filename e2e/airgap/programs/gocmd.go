package programs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Root is the root of the repository, whose files say what is built: the nearest
// directory upwards that has this module.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "e2e", "airgap", "controlplane", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is in no checkout of studio-go-runner; run this in one")
		}
	}
}

// Go runs the go command in a directory of the repository, for static programs of
// this machine.
func Go(ctx context.Context, dir string, stdout io.Writer, args ...string) error {
	return goShown(ctx, dir, stdout, io.Discard, args...)
}

// goShown does that, and shows that it goes on.
func goShown(ctx context.Context, dir string, stdout, progress io.Writer, args ...string) error {
	root, err := Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout = filepath.Join(root, filepath.FromSlash(dir)), stdout
	// The binaries are for this machine whatever the caller builds for, and
	// the nested module belongs to no workspace.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	return run(ctx, cmd, syscall.SIGINT, progress) // it leaves its work directory behind when it is killed
}

// ModuleDir returns the directory of a module that the one in a directory of the
// repository requires, downloaded if need be.
func ModuleDir(ctx context.Context, dir, module string) (string, error) {
	var out strings.Builder
	if err := Go(ctx, dir, &out, "mod", "download", "-json", module); err != nil {
		return "", err
	}
	var info struct{ Dir string }
	if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	return info.Dir, nil
}
