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
	"time"
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
	root, err := Root()
	if err != nil {
		return err
	}
	return runGo(ctx, filepath.Join(root, filepath.FromSlash(dir)), stdout, nil, args...)
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

// runGo runs the go command. What it prints on stderr goes to meter as well, if
// there is one; what is not progress is in the error.
func runGo(ctx context.Context, dir string, stdout io.Writer, meter *meter, args ...string) error {
	var captured strings.Builder
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Stdout = stdout
	cmd.Stderr = &captured
	if meter != nil {
		cmd.Stderr = meter
	}
	// The binaries are for this machine whatever the caller builds for, and
	// the nested module belongs to no workspace.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly",
		"GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	// Interrupt the compilers with the go command, which leaves its work
	// directory behind when it is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := captured.String()
	if meter != nil {
		text = meter.captured()
	}
	return fmt.Errorf("go %s: %w\n%s", args[0], err, strings.TrimSpace(text))
}
