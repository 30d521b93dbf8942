package programs

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
)

// How long envtest's servers may take: for their list of versions, and for 80 MB.
// Where there is no internet the list fails at once or, behind some firewalls,
// never.
var (
	listTimeout     = 20 * time.Second
	downloadTimeout = 5 * time.Minute
)

// EnsureControlPlane returns the directory of etcd, kube-apiserver and kubectl:
// those that were built here before, else those that envtest publishes, else it
// builds them.
func EnsureControlPlane(ctx context.Context, progress io.Writer) (string, error) {
	built, err := ControlPlane.Locate()
	if err != nil || cache.Has(built.Dir) {
		return built.Dir, err
	}
	published := filepath.Join(filepath.Dir(built.Dir), "envtest-"+built.Version)
	err = cache.Ensure(ctx, published, "envtest's control plane", progress, func(ctx context.Context, dir string) error {
		return download(ctx, built.Version, dir, progress)
	})
	if err == nil || ctx.Err() != nil {
		return published, err
	}
	fmt.Fprintf(progress, "it cannot be downloaded: %s\n", strings.Join(strings.Fields(err.Error()), " "))
	built, err = ControlPlane.Ensure(ctx, progress)
	return built.Dir, err
}

// download gets what envtest publishes for the minor version.
func download(ctx context.Context, version, dir string, progress io.Writer) error {
	// Compiling the program that asks is not to be counted: on a busy machine that
	// takes longer.
	if err := Go(ctx, "e2e/airgap", io.Discard, "tool", "-n", "setup-envtest"); err != nil {
		return err
	}
	minor := strings.Join(strings.Split(strings.TrimPrefix(version, "v"), ".")[:2], ".")
	fmt.Fprintf(progress, "asking envtest for a control plane of Kubernetes %s, for at most %s\n", minor, listTimeout)
	if _, err := setupEnvtest(ctx, listTimeout, "list"); err != nil {
		return err
	}
	fmt.Fprintf(progress, "downloading it, for at most %s\n", downloadTimeout)
	store := dir + ".d"
	defer os.RemoveAll(store)
	at, err := setupEnvtest(ctx, downloadTimeout, "use", "--print=path", "--bin-dir="+store, minor+".x")
	if err != nil {
		return err
	}
	return os.Rename(at, dir)
}

// setupEnvtest runs controller-runtime's program, which this module pins.
func setupEnvtest(ctx context.Context, limit time.Duration, args ...string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out strings.Builder
	err := Go(limited, "e2e/airgap", &out, append([]string{"tool", "setup-envtest"}, args...)...)
	if limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("setup-envtest %s does not end in %s", args[0], limit)
	}
	return strings.TrimSpace(out.String()), err
}
