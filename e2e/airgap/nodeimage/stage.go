package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// stage lays out in a directory what the Dockerfile needs, and returns the name
// of the pause image.
func (p parts) stage(ctx context.Context, dir string) (pause string, err error) {
	kind, err := programs.ModuleDir(ctx, "e2e/airgap", "sigs.k8s.io/kind")
	if err != nil {
		return "", err
	}
	ours, err := fs.Sub(recipe, "files")
	if err != nil {
		return "", err
	}
	node := filepath.Join(dir, "node")
	for _, files := range []fs.FS{os.DirFS(filepath.Join(kind, "images", "base", "files")), ours} {
		if err := os.CopyFS(node, files); err != nil {
			return "", fmt.Errorf("add the files of a node: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(node, "kind", "version"), []byte(p.version), 0o644); err != nil {
		return "", err
	}
	for place, names := range map[string][]string{
		"usr/bin":       {"kubelet", "kubeadm", "kubectl"},
		"usr/local/bin": {"containerd", "containerd-shim-runc-v2", "ctr"},
		"opt/cni/bin":   {"host-local", "ptp"},
	} {
		if err := os.MkdirAll(filepath.Join(node, place), 0o755); err != nil {
			return "", err
		}
		for _, name := range names {
			if err := os.Link(p.programs[name], filepath.Join(node, place, name)); err != nil {
				return "", err
			}
		}
	}
	text, err := recipe.ReadFile("Dockerfile")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "Dockerfile"), text, 0o644)
	}
	if err := errors.Join(err, os.Link(p.rootfs.Tar, filepath.Join(dir, "debian.tar"))); err != nil {
		return "", err
	}
	return p.stageImages(ctx, filepath.Join(dir, "images"))
}

// stageImages makes the images that kubeadm asks for: each is one static program
// on nothing, or for kube-proxy, which calls iptables, on Debian.
func (p parts) stageImages(ctx context.Context, dir string) (pause string, err error) {
	names, err := p.imageNames(ctx)
	if err != nil {
		return "", err
	}
	work, err := os.MkdirTemp("", "studio-go-runner-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	tool := filepath.Join(work, "image")
	if err := programs.Go(ctx, ".", io.Discard, "build", "-o", tool, "./runner/deploy/image"); err != nil {
		return "", err
	}
	for _, name := range names {
		args := []string{"--name=" + name, "--output=" + filepath.Join(dir, short(name)+".tar"), "--user=0:0"}
		program, known := p.programs[short(name)]
		at := "/usr/local/bin/" + short(name)
		switch short(name) {
		case "kube-proxy":
			args = append(args, "--base="+p.rootfs.Tar)
		case "coredns":
			at = "/coredns"
			args = append(args, "--entrypoint="+at)
		case "pause":
			pause, at, program, known = name, "/pause", filepath.Join(work, "pause"), true
			if err := compilePause(ctx, program); err != nil {
				return "", err
			}
			args = append(args, "--entrypoint="+at)
		}
		if !known {
			return "", fmt.Errorf("kubeadm asks for %s, which the recipe in e2e/airgap/nodeimage does not know", name)
		}
		args = append(args, "--add="+program+"="+at)
		if err := programs.Run(ctx, exec.CommandContext(ctx, tool, args...), io.Discard); err != nil {
			return "", err
		}
	}
	if pause == "" {
		return "", fmt.Errorf("kubeadm lists no pause image: %q", names)
	}
	return pause, nil
}

// compilePause compiles the program of the pause image from its C file, which
// the module of Kubernetes has.
func compilePause(ctx context.Context, out string) error {
	kubernetes, err := programs.ModuleDir(ctx, "e2e/airgap/controlplane", "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	source := filepath.Join(kubernetes, "build", "pause", "linux", "pause.c")
	cmd := exec.CommandContext(ctx, "gcc", "-Os", "-static", "-DVERSION=studio-go-runner", "-o", out, source)
	if err := programs.Run(ctx, cmd, io.Discard); err != nil {
		return fmt.Errorf("compile pause (needs gcc and libc6-dev): %w", err)
	}
	return nil
}
