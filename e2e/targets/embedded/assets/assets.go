// Package assets finds the programs of the embedded control plane: etcd,
// kube-apiserver and kubectl.
package assets

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// EnvAssets names a directory with ready-made programs. It is the variable that
// controller-runtime's setup-envtest prints.
const EnvAssets = "KUBEBUILDER_ASSETS"

// Ensure returns a directory that holds etcd and kube-apiserver: the one that
// KUBEBUILDER_ASSETS names, or one that e2e/airgap finds, downloads or builds. It
// tells on progress what it does.
func Ensure(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := Given()
	if dir != "" || err != nil {
		return dir, err
	}
	if dir, err = Airgap(ctx, progress, "controlplane"); err != nil {
		return "", fmt.Errorf("make control plane (or set %s): %w", EnvAssets, err)
	}
	return dir, nil
}

// Given returns the directory that the user names, if any. Kubectl is not missed
// in it.
func Given() (string, error) {
	dir := os.Getenv(EnvAssets)
	if dir == "" {
		return "", nil
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%s is %q: it has no %s; unset it to have the programs downloaded or built: %w", EnvAssets, dir, name, err)
		}
	}
	return dir, nil
}

// Airgap runs the program e2e/airgap, which is a module of its own, and returns
// what it prints.
func Airgap(ctx context.Context, progress io.Writer, args ...string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	module := filepath.Join(strings.TrimSpace(string(root)), "e2e", "airgap")
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "-C", module, "."}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = progress
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run does not pass signals on
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 15 * time.Second
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return strings.TrimSpace(string(out)), err
}
