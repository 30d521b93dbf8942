package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// may says whether a process of this machine's root can have a capability.
func may(capability uintptr) bool {
	has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, capability, 0, 0, 0)
	return err == nil && has == 1
}

// whyNotStartable says why this process cannot start a daemon, or "".
func whyNotStartable() string {
	if os.Geteuid() != 0 {
		return "this user is not root"
	}
	if !may(unix.CAP_SYS_ADMIN) || !may(unix.CAP_NET_ADMIN) {
		return "root lacks CAP_SYS_ADMIN or CAP_NET_ADMIN here, as in a container that is not privileged"
	}
	for _, name := range []string{"dockerd", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			return name + " is not installed (apt-get install docker.io)"
		}
	}
	return ""
}

// dataRoot returns a directory for the images: in the user's cache directory,
// or, where that is on a file system that cannot hold them, in /var/lib.
func dataRoot() (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	var problems []error
	for _, root := range []string{filepath.Join(dir, "docker"), "/var/lib/studio-go-runner/docker"} {
		err := holdsOverlay(root)
		if err == nil {
			return root, nil
		}
		problems = append(problems, err)
	}
	return "", fmt.Errorf("find a file system for images (set XDG_CACHE_HOME to a directory on a local disk): %w", errors.Join(problems...))
}

// holdsOverlay tries whether the upper layer of an overlay can be in dir. It
// cannot on network file systems, and where dir is on an overlay itself, as in
// most containers. Docker would fall back to a driver that copies every image.
func holdsOverlay(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(dir, "overlay-check-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(temp, name), 0o700); err != nil {
			return err
		}
	}
	merged := filepath.Join(temp, "merged")
	data := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", temp, temp, temp)
	if err := unix.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount an overlay in %s: %w", dir, err)
	}
	return unix.Unmount(merged, 0)
}

// buildRuntime builds the program that takes CAP_SYS_RESOURCE away and returns
// its path.
func buildRuntime(ctx context.Context) (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ociruntime")
	return path, programs.Go(ctx, "e2e/airgap", io.Discard, "build", "-trimpath", "-o", path, "./ociruntime")
}
