package nodeimage

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// suite is the last Debian whose systemd runs on machines with cgroup v1.
const suite = "bookworm"

// debianPackages are what a node runs beside the programs that are built: the
// init system, what kubelet and kube-proxy call, and what kind's scripts call.
var debianPackages = []string{
	"ca-certificates", "conntrack", "crun", "curl", "dbus", "ethtool", "fuse-overlayfs", "hostname", "iproute2", "iptables", "jq",
	"kmod", "libseccomp2", "nftables", "pigz", "procps", "socat", "systemd", "systemd-sysv",
}

// leftOut are files of the root file system that no test needs. /dev, /proc and
// /sys are mounted over.
var leftOut = []string{
	"./dev/*", "./proc/*", "./sys/*", "./debootstrap", "./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*",
	"./usr/share/doc/*", "./usr/share/man/*", "./usr/share/info/*", "./usr/share/locale/*",
}

// Rootfs is the root file system of the nodes: Debian, with a shell. It is a
// good base for other images as well.
type Rootfs struct {
	Tar string // the archive
	Key string // changes with its recipe
}

// locateRootfs says where EnsureRootfs has the archive.
func locateRootfs() (Rootfs, error) {
	dir, err := cache.Dir()
	if err != nil {
		return Rootfs{}, err
	}
	key := cache.Key(suite, strings.Join(debianPackages, " "), strings.Join(leftOut, " "), runtime.GOARCH)[:12]
	return Rootfs{Tar: filepath.Join(dir, "debian-"+key+".tar"), Key: key}, nil
}

// EnsureRootfs makes the root file system from Debian's packages unless it is
// there. Making it needs root.
func EnsureRootfs(ctx context.Context, progress io.Writer) (Rootfs, error) {
	rootfs, err := locateRootfs()
	if err != nil {
		return Rootfs{}, err
	}
	return rootfs, cache.Ensure(ctx, rootfs.Tar, "the Debian root file system", progress, func(ctx context.Context, path string) error {
		return makeRootfs(ctx, path, progress)
	})
}

// makeRootfs installs Debian into a directory and packs that into file.
func makeRootfs(ctx context.Context, file string, progress io.Writer) error {
	if err := Possible(); err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(progress, "installing Debian %s into %s, about 3 minutes, once\n", suite, file)
	dir := file + ".d"
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	args := []string{"--variant=minbase", "--include=" + strings.Join(debianPackages, ","), suite, dir}
	if mirror := debianMirror(ctx); mirror != "" {
		args = append(args, mirror)
	}
	cmd := exec.CommandContext(ctx, "debootstrap", args...)
	// Mounts of its own, so that none is left of one that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := programs.Run(ctx, cmd, progress); err != nil {
		return err
	}
	args = []string{"--create", "--file=" + file, "--directory=" + dir, "--numeric-owner", "--sort=name", "--anchored"}
	for _, pattern := range leftOut {
		args = append(args, "--exclude="+pattern)
	}
	if err := programs.Run(ctx, exec.CommandContext(ctx, "tar", append(args, ".")...), progress); err != nil {
		return err
	}
	fmt.Fprintf(progress, "Debian root file system made in %s\n", time.Since(began).Round(time.Second))
	return nil
}

// debianMirror is the mirror that this machine's own packages come from, or ""
// for debootstrap's default: the machine may not be a Debian of that suite.
func debianMirror(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format=$(REPO_URI) $(CODENAME) $(COMPONENT)",
		"Created-By: Packages").Output()
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[1] == suite && fields[2] == "main" {
			return fields[0]
		}
	}
	return ""
}
