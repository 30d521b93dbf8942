package programs

import (
	"context"
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

// Root is the directory of the main module, found from the working directory:
// nested modules cannot be embedded into a package of this one.
func Root(ctx context.Context) (string, error) {
	var out strings.Builder
	if err := Go(ctx, "", &out, "env", "GOMOD"); err != nil {
		return "", err
	}
	gomod := strings.TrimSpace(out.String())
	if gomod == "" || gomod == os.DevNull {
		return "", errors.New("the working directory is in no Go module; run this in a checkout of the repository")
	}
	return filepath.Dir(gomod), nil
}

// Go runs the go command in a directory, for static programs of this machine.
func Go(ctx context.Context, dir string, stdout io.Writer, args ...string) error {
	return runGo(ctx, dir, stdout, nil, args...)
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
