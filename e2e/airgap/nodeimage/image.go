// Package nodeimage makes an image for the nodes of a kind cluster without a
// container registry: Kubernetes, containerd and CoreDNS from Go modules, the
// rest from Debian's packages and from the files that kind itself lays into its
// images. It is made once per version, and kept in Docker; its parts are kept in
// the user's cache directory.
package nodeimage

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
	"github.com/studioml/studio-go-runner/e2e/airgap/docker"
	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// recipe is what makes the image: another recipe, another image.
//
//go:embed Dockerfile files stage.go
var recipe embed.FS

// sets are what a node is made from beside Debian, Kubernetes' own last.
var sets = []programs.Set{programs.ControlPlane, programs.Containerd, programs.CoreDNS, programs.Node}

// Tag is the name of the image that Ensure makes.
func Tag(ctx context.Context) (string, error) {
	rootfs, err := locateRootfs()
	if err != nil {
		return "", err
	}
	parts := []string{runtime.GOARCH, rootfs.Key}
	version := ""
	for _, set := range sets {
		built, err := set.Locate()
		if err != nil {
			return "", err
		}
		version = built.Version // the last one's, Kubernetes'
		parts = append(parts, built.Key)
	}
	kind, err := programs.ModuleDir(ctx, "e2e/airgap", "sigs.k8s.io/kind")
	if err != nil {
		return "", err
	}
	parts = append(parts, filepath.Base(kind)) // ends with its version
	err = fs.WalkDir(recipe, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := recipe.ReadFile(name)
		parts = append(parts, name, string(text))
		return err
	})
	return "studio-go-runner/node:" + version + "-" + cache.Key(parts...)[:12], err
}

// Ensure makes the node image unless Docker has it, and returns its name.
// Making it needs root.
func Ensure(ctx context.Context, progress io.Writer) (string, error) {
	tag, err := Tag(ctx)
	if err != nil {
		return "", fmt.Errorf("find the node image's name: %w", err)
	}
	present, err := docker.HasImage(ctx, tag)
	if err != nil {
		return "", err
	}
	if present {
		fmt.Fprintf(progress, "Docker has the image %s\n", tag)
		return tag, nil
	}
	if err := Possible(); err != nil {
		return "", err
	}
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	release, err := cache.Lock(ctx, filepath.Join(dir, "images.lock"), "an image", progress)
	if err != nil {
		return "", err
	}
	defer release()
	if present, err = docker.HasImage(ctx, tag); err != nil || present {
		return tag, err
	}
	// Beside the parts, which are linked into it: it takes more than 1 GB, and
	// /tmp may be memory.
	if err := build(ctx, tag, filepath.Join(dir, "node-image.tmp"), progress); err != nil {
		return "", fmt.Errorf("make image %s: %w", tag, err)
	}
	return tag, nil
}

// ErrImpossible is that of a machine that cannot make images.
var ErrImpossible = errors.New("making node images needs")

// Possible says why this machine cannot make the images, and makes nothing. It
// returns nil if there is no such reason. Images that Docker has need nothing.
func Possible() error {
	var missing []string
	for program, pkg := range map[string]string{"debootstrap": "debootstrap", "gcc": "gcc libc6-dev", "tar": "tar"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, pkg)
		}
	}
	slices.Sort(missing)
	switch {
	case os.Geteuid() != 0:
		return fmt.Errorf("%w root: run this as root", ErrImpossible)
	case len(missing) > 0:
		return fmt.Errorf("%w programs that are not installed: apt-get install %s", ErrImpossible, strings.Join(missing, " "))
	}
	return nil
}

// build makes the node image in a directory that it empties.
func build(ctx context.Context, tag, dir string, progress io.Writer) error {
	began := time.Now()
	fmt.Fprintf(progress, "making the node image %s from Go modules and Debian packages\n", tag)
	p, err := ensureParts(ctx, progress)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(progress, "making the images of the control plane, kube-proxy, CoreDNS and pause")
	pause, err := p.stage(ctx, dir)
	if err != nil {
		return err
	}
	cmd := docker.Command(ctx, "build", "--force-rm", "--network=none", "--build-arg=PAUSE="+pause, "--tag="+tag, dir)
	if err := programs.Run(ctx, cmd, progress); err != nil {
		return err
	}
	// What is left of the other stage is as large as the image.
	if _, err := docker.Run(ctx, "image", "prune", "--force", "--filter=label=studioml.io/stage"); err != nil {
		return err
	}
	fmt.Fprintf(progress, "made %s in %s\n", tag, time.Since(began).Round(time.Second))
	return nil
}

// parts are what a node is made from.
type parts struct {
	rootfs   Rootfs
	version  string            // of Kubernetes
	programs map[string]string // the file of each
}

// ensureParts makes what the cache lacks of them.
func ensureParts(ctx context.Context, progress io.Writer) (p parts, err error) {
	if p.rootfs, err = EnsureRootfs(ctx, progress); err != nil {
		return p, err
	}
	p.programs = map[string]string{}
	for _, set := range sets {
		built, err := set.Ensure(ctx, progress)
		if err != nil {
			return p, err
		}
		p.version = built.Version
		for name := range set.Packages {
			p.programs[name] = filepath.Join(built.Dir, name)
		}
	}
	return p, nil
}

// imageNames are those that kubeadm asks for.
func (p parts) imageNames(ctx context.Context) ([]string, error) {
	var out strings.Builder
	cmd := exec.CommandContext(ctx, p.programs["kubeadm"], "config", "images", "list", "--kubernetes-version="+p.version)
	cmd.Stdout = &out
	if err := programs.Run(ctx, cmd, io.Discard); err != nil {
		return nil, err
	}
	return strings.Fields(out.String()), nil
}

// short is an image's name without registry, folders and tag.
func short(image string) string {
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}
