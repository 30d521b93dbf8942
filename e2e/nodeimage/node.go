package nodeimage

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/programs"
)

// built are the programs of a node.
type built struct {
	controlPlane, node, containerd, coreDNS programs.Built
}

// storage has kind find a default storage class; nothing here uses one.
const storage = `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: kubernetes.io/no-provisioner
`

// unwanted are the units that kind's recipe takes out of Debian: the node's
// systemd is to run containerd and kubelet and nothing else.
var unwanted = []string{
	"usr/lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service",
	"usr/lib/systemd/system/multi-user.target.wants/*",
	"etc/systemd/system/*.wants/*",
	"usr/lib/systemd/system/local-fs.target.wants/*",
	"usr/lib/systemd/system/sockets.target.wants/*udev*",
	"usr/lib/systemd/system/sockets.target.wants/*initctl*",
	"usr/lib/systemd/system/basic.target.wants/*",
}

// nodeFiles are what a node has beyond Debian: kind's files, the programs, and
// the configuration that kind's recipe makes. pause is the image that containerd
// starts for each pod.
func nodeFiles(ctx context.Context, b built, rootfs Rootfs, pause string) (files, error) {
	f := files{}
	if err := f.unwantedUnits(rootfs); err != nil {
		return nil, err
	}
	if err := f.kindFiles(ctx); err != nil {
		return nil, fmt.Errorf("add kind's files: %w", err)
	}
	for _, name := range []string{"kubelet", "kubeadm"} {
		f.program("usr/bin/"+name, filepath.Join(b.node.Dir, name))
	}
	f.program("usr/bin/kubectl", filepath.Join(b.controlPlane.Dir, "kubectl"))
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		f.program("usr/local/bin/"+name, filepath.Join(b.containerd.Dir, name))
	}
	for _, name := range []string{"host-local", "loopback", "portmap", "ptp"} {
		f.program("opt/cni/bin/"+name, filepath.Join(b.containerd.Dir, name))
	}
	if err := f.containerdConfig(ctx, b, pause); err != nil {
		return nil, fmt.Errorf("configure containerd: %w", err)
	}
	f.text("kind/version", b.node.Version)
	f.text("kind/manifests/default-storage.yaml", storage)
	f["etc/kubernetes/manifests"] = file{mode: 0o755, dir: true}
	// The kernel's log is not the node's.
	f.text("etc/systemd/journald.conf.d/kind.conf", "[Journal]\nReadKMsg=no\n")
	for _, unit := range []string{"kubelet.service", "containerd.service", "undo-mount-hacks.service"} {
		f.symlink("etc/systemd/system/multi-user.target.wants/"+unit, "/etc/systemd/system/"+unit)
	}
	f.symlink("etc/systemd/system/systemd-binfmt.service", "/dev/null") // binfmt_misc is the whole kernel's
	return f, nil
}

// unwantedUnits hides the unwanted units of the root file system.
func (f files) unwantedUnits(rootfs Rootfs) error {
	names, err := namesIn(rootfs.Tar)
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, pattern := range unwanted {
			if matched, _ := path.Match(pattern, name); matched {
				f.remove(name)
			}
		}
	}
	return nil
}

// kindFiles adds the files that kind lays into its own images.
func (f files) kindFiles(ctx context.Context) error {
	root, err := programs.Root(ctx)
	if err != nil {
		return err
	}
	kind, err := moduleDir(ctx, root, "sigs.k8s.io/kind")
	if err != nil {
		return err
	}
	added := files{}
	if err := added.tree("", filepath.Join(kind, "images", "base", "files")); err != nil {
		return err
	}
	for name, file := range added {
		if file.dir { // the directory of a module is not writable
			continue
		}
		file.mode = 0o644
		if strings.HasPrefix(name, "usr/local/bin/") || strings.HasPrefix(name, "kind/bin/") {
			file.mode = 0o755
		}
		f[name] = file
	}
	return nil
}

// containerdConfig changes kind's configuration of containerd, and adds what the
// specification of each container starts from.
func (f files) containerdConfig(ctx context.Context, b built, pause string) error {
	const name = "etc/containerd/config.toml"
	config, err := os.ReadFile(f[name].source)
	if err != nil {
		return err
	}
	if config, err = replaceLine(config, "sandbox_image = ", fmt.Sprintf("%q", pause)); err != nil {
		return err
	}
	// Lowering a score needs CAP_SYS_RESOURCE, which not every machine grants.
	if config, err = replaceLine(config, "restrict_oom_score_adj = ", "true"); err != nil {
		return err
	}
	f.text(name, string(config))
	spec, err := baseSpec(ctx, filepath.Join(b.containerd.Dir, "ctr"))
	if err != nil {
		return err
	}
	f.text("etc/containerd/cri-base.json", spec)
	return nil
}

// baseSpec is what containerd's own specification becomes by kind's recipe.
func baseSpec(ctx context.Context, ctr string) (string, error) {
	out, err := exec.CommandContext(ctx, ctr, "oci", "spec").Output()
	if err != nil {
		return "", fmt.Errorf("ctr oci spec: %w", err)
	}
	var spec map[string]any
	if err := json.Unmarshal(out, &spec); err != nil {
		return "", fmt.Errorf("ctr oci spec: %w", err)
	}
	spec["hooks"] = map[string]any{"createContainer": []any{map[string]any{"path": "/kind/bin/mount-product-files.sh"}}}
	if process, ok := spec["process"].(map[string]any); ok {
		delete(process, "rlimits") // the node's apply
	}
	out, err = json.Marshal(spec)
	return string(out), err
}

// moduleDir returns the directory of a module that the one in dir requires,
// downloaded if need be.
func moduleDir(ctx context.Context, dir, module string) (string, error) {
	var out strings.Builder
	if err := programs.Go(ctx, dir, &out, "mod", "download", "-json", module); err != nil {
		return "", err
	}
	var info struct{ Dir string }
	if err := json.Unmarshal([]byte(out.String()), &info); err != nil {
		return "", fmt.Errorf("go mod download: %w", err)
	}
	if _, err := os.Stat(info.Dir); err != nil {
		return "", fmt.Errorf("find module %s: %w", module, err)
	}
	return info.Dir, nil
}
