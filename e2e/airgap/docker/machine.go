package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// Capabilities by their numbers, see capabilities(7).
const (
	capNetAdmin    = 12
	capSysAdmin    = 21
	capSysResource = 24
)

// hasCapability looks into a set of this process, as CapBnd.
func hasCapability(set string, number uint) bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, set+":"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && bits&(1<<number) != 0
		}
	}
	return false
}

// whyNotStartable says why this process cannot start a daemon, or "".
func whyNotStartable() string {
	if os.Geteuid() != 0 {
		return "this user is not root"
	}
	if !hasCapability("CapEff", capSysAdmin) || !hasCapability("CapEff", capNetAdmin) {
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
