package nodeimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/studioml/studio-go-runner/e2e/programs"
)

// containerImages makes the images that kubeadm asks for, and writes them into
// one archive in the directory dir. It returns the archive and the name of the
// pause image.
func containerImages(ctx context.Context, b built, rootfs Rootfs, dir string) (archive, pause string, err error) {
	names, err := imageNames(ctx, b)
	if err != nil {
		return "", "", err
	}
	images := map[name.Tag]v1.Image{}
	for _, full := range names {
		tag, err := name.NewTag(full)
		if err != nil {
			return "", "", err
		}
		short := path.Base(tag.RepositoryStr())
		if short == "pause" {
			pause = full
		}
		if images[tag], err = containerImage(ctx, b, rootfs, short, dir); err != nil {
			return "", "", fmt.Errorf("make image %s: %w", full, err)
		}
	}
	if pause == "" {
		return "", "", fmt.Errorf("kubeadm lists no pause image: %q", names)
	}
	archive = filepath.Join(dir, "images.tar")
	return archive, pause, tarball.MultiWriteToFile(archive, images)
}

// imageNames asks kubeadm.
func imageNames(ctx context.Context, b built) ([]string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(b.node.Dir, "kubeadm"),
		"config", "images", "list", "--kubernetes-version="+b.node.Version)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("kubeadm config images list: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// containerImage makes the image with a short name: one static program, on
// nothing, or for kube-proxy, which calls iptables, on Debian.
func containerImage(ctx context.Context, b built, rootfs Rootfs, short, dir string) (v1.Image, error) {
	f := files{}
	var entrypoint []string
	image := empty.Image
	switch short {
	case "kube-apiserver", "etcd":
		f.program("usr/local/bin/"+short, filepath.Join(b.controlPlane.Dir, short))
	case "kube-controller-manager", "kube-scheduler":
		f.program("usr/local/bin/"+short, filepath.Join(b.node.Dir, short))
	case "kube-proxy":
		f.program("usr/local/bin/"+short, filepath.Join(b.node.Dir, short))
		layer, err := tarball.LayerFromFile(rootfs.Tar, fastGzip...)
		if err != nil {
			return nil, err
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			return nil, err
		}
	case "coredns":
		f.program("coredns", filepath.Join(b.coreDNS.Dir, "coredns"))
		entrypoint = []string{"/coredns"}
	case "pause":
		program := filepath.Join(dir, "pause")
		if err := compilePause(ctx, program); err != nil {
			return nil, err
		}
		f.program("pause", program)
		entrypoint = []string{"/pause"}
	default:
		return nil, fmt.Errorf("kubeadm asks for an image that the recipe in e2e/nodeimage does not know")
	}
	layer, err := f.layer(filepath.Join(dir, short+".tar"), fastGzip...)
	if err != nil {
		return nil, err
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return nil, err
	}
	return configured(image, v1.Config{Entrypoint: entrypoint})
}

// compilePause compiles the program of the pause image from its C file, which
// the module of Kubernetes has.
func compilePause(ctx context.Context, out string) error {
	root, err := programs.Root(ctx)
	if err != nil {
		return err
	}
	kubernetes, err := moduleDir(ctx, filepath.Join(root, "e2e", "controlplane"), "k8s.io/kubernetes")
	if err != nil {
		return err
	}
	source := filepath.Join(kubernetes, "build", "pause", "linux", "pause.c")
	text, err := exec.CommandContext(ctx, "gcc", "-Os", "-static", "-DVERSION=studio-go-runner", "-o", out, source).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile pause (needs gcc and libc6-dev): %w: %s", err, text)
	}
	return nil
}

// importImages puts the images of an archive into the store of a containerd that
// runs for this alone. The store is what the nodes find in /var/lib/containerd.
func importImages(ctx context.Context, b built, archive, store string) error {
	run, err := os.MkdirTemp("", "studio-go-runner-*") // the path of a socket must be short
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	config := filepath.Join(run, "containerd.toml")
	// Neither pods nor other snapshotters are wanted; some write outside the store.
	const text = `version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(run, "containerd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	socket := filepath.Join(run, "containerd.sock")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := exec.CommandContext(ctx, filepath.Join(b.containerd.Dir, "containerd"),
		"--config", config, "--root", store, "--state", filepath.Join(run, "state"), "--address", socket)
	server.Stdout, server.Stderr = log, log
	server.Cancel = func() error { return server.Process.Signal(os.Interrupt) } // it closes its database
	if err := server.Start(); err != nil {
		return err
	}
	// ctr wants the socket to be there; when that takes too long it says so.
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline) && ctx.Err() == nil; {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	out, err := exec.CommandContext(ctx, filepath.Join(b.containerd.Dir, "ctr"),
		"--address", socket, "--connect-timeout", "20s", "--namespace", "k8s.io",
		"images", "import", "--all-platforms", "--no-unpack", "--digests", archive).CombinedOutput()
	cancel()
	_ = server.Wait() // it was interrupted
	if err == nil {
		return nil
	}
	said, _ := os.ReadFile(log.Name())
	return fmt.Errorf("ctr images import: %w: %s\n%s", err, out, said)
}

// configured gives an image its configuration.
func configured(image v1.Image, config v1.Config) (v1.Image, error) {
	file, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", architecture, config
	return mutate.ConfigFile(image, file)
}
