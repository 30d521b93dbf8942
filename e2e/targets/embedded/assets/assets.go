// Package assets finds or builds the programs of the embedded control plane:
// etcd, kube-apiserver and kubectl.
package assets

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/studioml/studio-go-runner/e2e/programs"
)

// EnvAssets names a directory with ready-made binaries. It is the variable
// that controller-runtime's setup-envtest prints.
const EnvAssets = "KUBEBUILDER_ASSETS"

// Ensure returns a directory that holds etcd and kube-apiserver: the one that
// KUBEBUILDER_ASSETS names, or one in the user's cache directory, which it
// builds first if need be. It tells on progress what it does.
func Ensure(ctx context.Context, progress io.Writer) (string, error) {
	dir, err := given()
	if dir != "" || err != nil {
		return dir, err
	}
	built, err := programs.ControlPlane.Ensure(ctx, progress)
	if err != nil {
		return "", fmt.Errorf("build control plane (or set %s): %w", EnvAssets, err)
	}
	return built.Dir, nil
}

// Path returns the directory that Ensure would return, without building it.
func Path(ctx context.Context) (string, error) {
	dir, err := given()
	if dir != "" || err != nil {
		return dir, err
	}
	built, err := programs.ControlPlane.Locate(ctx)
	if err != nil {
		return "", fmt.Errorf("find control plane (or set %s): %w", EnvAssets, err)
	}
	return built.Dir, nil
}

// given returns the directory that the user names, if any. Kubectl is not missed
// in it.
func given() (string, error) {
	dir := os.Getenv(EnvAssets)
	if dir == "" {
		return "", nil
	}
	if err := programs.Complete(dir, "etcd", "kube-apiserver"); err != nil {
		return "", fmt.Errorf("%s is %q: %w; unset it to have the programs built", EnvAssets, dir, err)
	}
	return dir, nil
}
