package nodeimage

import (
	"compress/gzip"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/studioml/studio-go-runner/e2e/cache"
	"github.com/studioml/studio-go-runner/e2e/docker"
	"github.com/studioml/studio-go-runner/e2e/programs"
)

// architecture is the machine's: the programs are built for it.
const architecture = runtime.GOARCH

var (
	// Layers that Docker loads are stored as they are; those of the images in a
	// node are copied to every node first.
	uncompressed = []tarball.LayerOption{tarball.WithCompression(compression.None)}
	fastGzip     = []tarball.LayerOption{tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching}
)

// recipe is what makes the image: other code, another image.
//
//go:embed containers.go image.go layer.go node.go
var recipe embed.FS

// Tag is the name of the image that Ensure makes.
func Tag(ctx context.Context) (string, error) {
	parts := []string{architecture}
	rootfs, err := locateRootfs()
	if err != nil {
		return "", err
	}
	parts = append(parts, rootfs.Key)
	version := ""
	for _, set := range []programs.Set{programs.ControlPlane, programs.Containerd, programs.CoreDNS, programs.Node} {
		built, err := set.Locate(ctx)
		if err != nil {
			return "", err
		}
		version = built.Version // the last one's, Kubernetes'
		parts = append(parts, built.Key)
	}
	root, err := programs.Root(ctx)
	if err != nil {
		return "", err
	}
	var kind strings.Builder
	if err := programs.Go(ctx, root, &kind, "list", "-m", "sigs.k8s.io/kind"); err != nil {
		return "", err
	}
	parts = append(parts, kind.String())
	sources, err := recipe.ReadDir(".")
	if err != nil {
		return "", err
	}
	for _, source := range sources {
		text, err := recipe.ReadFile(source.Name())
		if err != nil {
			return "", err
		}
		parts = append(parts, string(text))
	}
	return "studio-go-runner/node:" + version + "-" + keyOf(parts...), nil
}

// Ensure makes the node image unless Docker has it, and returns its name.
// Making it needs root.
func Ensure(ctx context.Context, d *docker.Docker, progress io.Writer) (string, error) {
	tag, err := Tag(ctx)
	if err != nil {
		return "", fmt.Errorf("find the node image's name: %w", err)
	}
	return tag, ensure(ctx, d, tag, progress, func(ctx context.Context) error { return build(ctx, d, tag, progress) })
}

// EnsureDebian gives Docker an image with the root file system of the nodes: a
// base, with a shell, for the images of pods. It shares its layer with the node
// image.
func EnsureDebian(ctx context.Context, d *docker.Docker, progress io.Writer) (string, error) {
	rootfs, err := locateRootfs()
	if err != nil {
		return "", err
	}
	tag := "studio-go-runner/debian:" + rootfs.Key
	return tag, ensure(ctx, d, tag, progress, func(ctx context.Context) error {
		if _, err := EnsureRootfs(ctx, progress); err != nil {
			return err
		}
		image, err := debian(rootfs)
		if err != nil {
			return err
		}
		if image, err = configured(image, v1.Config{Cmd: []string{"sh"}}); err != nil {
			return err
		}
		return load(ctx, d, tag, image)
	})
}

// ensure makes an image unless Docker has it. One process makes one at a time.
func ensure(ctx context.Context, d *docker.Docker, tag string, progress io.Writer, make func(context.Context) error) error {
	present, err := d.HasImage(ctx, tag)
	if err != nil {
		return err
	}
	if present {
		fmt.Fprintf(progress, "Docker has the image %s\n", tag)
		return nil
	}
	dir, err := cache.Dir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	release, err := cache.Lock(ctx, filepath.Join(dir, "images.lock"), func() {
		fmt.Fprintln(progress, "another process makes an image; waiting for it")
	})
	if err != nil {
		return fmt.Errorf("lock images: %w", err)
	}
	defer release()
	if present, err = d.HasImage(ctx, tag); err != nil || present {
		return err
	}
	if err := make(ctx); err != nil {
		return fmt.Errorf("make image %s: %w", tag, err)
	}
	return nil
}

// build makes the node image.
func build(ctx context.Context, d *docker.Docker, tag string, progress io.Writer) error {
	began := time.Now()
	if os.Geteuid() != 0 {
		return errors.New("its parts are made as root; run this as root")
	}
	fmt.Fprintf(progress, "making the node image %s from Go modules and Debian packages\n", tag)
	rootfs, err := EnsureRootfs(ctx, progress)
	if err != nil {
		return err
	}
	var b built
	for _, s := range []struct {
		set programs.Set
		to  *programs.Built
	}{
		{programs.ControlPlane, &b.controlPlane}, {programs.Node, &b.node},
		{programs.Containerd, &b.containerd}, {programs.CoreDNS, &b.coreDNS},
	} {
		if *s.to, err = s.set.Ensure(ctx, progress); err != nil {
			return err
		}
	}
	// Beside the parts: it takes more than 1 GB, and /tmp may be memory. The
	// caller has the lock.
	dir := filepath.Join(filepath.Dir(rootfs.Tar), "node-image.tmp")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(progress, "making the images of the control plane, kube-proxy, CoreDNS and pause")
	archive, pause, err := containerImages(ctx, b, rootfs, dir)
	if err != nil {
		return err
	}
	store := filepath.Join(dir, "store")
	if err := importImages(ctx, b, archive, store); err != nil {
		return err
	}
	image, err := nodeImage(ctx, b, rootfs, pause, store, dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "loading the node image into Docker")
	if err := load(ctx, d, tag, image); err != nil {
		return err
	}
	fmt.Fprintf(progress, "made %s in %s\n", tag, time.Since(began).Round(time.Second))
	return nil
}

// nodeImage puts a node together: Debian, the node's files, and the images that
// its containerd has from the start.
func nodeImage(ctx context.Context, b built, rootfs Rootfs, pause, store, dir string) (v1.Image, error) {
	image, err := debian(rootfs)
	if err != nil {
		return nil, err
	}
	node, err := nodeFiles(ctx, b, rootfs, pause)
	if err != nil {
		return nil, err
	}
	images := files{}
	if err := images.tree("var/lib/containerd", store); err != nil {
		return nil, err
	}
	for i, f := range []files{node, images} {
		layer, err := f.layer(filepath.Join(dir, fmt.Sprintf("node-%d.tar", i)), uncompressed...)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	}
	// As kind's recipe has it: systemd looks for the variable, and takes TERM for
	// a wish to be started again.
	return configured(image, v1.Config{
		Env: []string{"container=docker"}, StopSignal: "SIGRTMIN+3",
		Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
	})
}

// debian is the root file system alone.
func debian(rootfs Rootfs) (v1.Image, error) {
	layer, err := tarball.LayerFromFile(rootfs.Tar, uncompressed...)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(empty.Image, layer)
}

// load streams an image into Docker.
func load(ctx context.Context, d *docker.Docker, tag string, image v1.Image) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(tarball.Write(ref, image, out)) }()
	cmd := d.Command(ctx, "load", "--quiet")
	cmd.Stdin = in
	text, err := cmd.CombinedOutput()
	in.Close() // ends the writer if Docker ended early
	if err != nil {
		return fmt.Errorf("docker load: %w: %s", err, text)
	}
	return nil
}
