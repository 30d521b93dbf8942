package kind

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	yaml "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
)

// SharedDir is where each node has the directory that all of them share.
const SharedDir = "/var/lib/studio-go-runner"

// cgroupV1 has kubelet run where cgroups are of the first version.
const cgroupV1 = `kind: KubeletConfiguration
apiVersion: kubelet.config.k8s.io/v1beta1
failCgroupV1: false
`

// ourImages is how the names of e2e/airgap's node images begin. These have no pod
// network of their own.
const ourImages = "studio-go-runner/node:"

// writeConfig copies the repository's kind configuration into dir, with what
// network and machine need, and the shared directory in its place. It returns the
// copy.
func writeConfig(c Config, dir string, ourNetwork, oldCgroups bool) (string, error) {
	source := c.ConfigFile
	data, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	var config v1alpha4.Cluster
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		return "", fmt.Errorf("parse %s: %w", source, err)
	}
	if len(config.Nodes) == 0 {
		return "", fmt.Errorf("%s has no nodes", source)
	}
	if ourNetwork {
		config.Networking.DisableDefaultCNI = true
	}
	if oldCgroups {
		config.KubeadmConfigPatches = append(config.KubeadmConfigPatches, cgroupV1)
	}
	for i := range config.Nodes {
		if err := setShared(config.Nodes[i].ExtraMounts, c.Shared); err != nil {
			return "", fmt.Errorf("%s: node %d: %w", source, i+1, err)
		}
	}
	if data, err = yaml.Marshal(config); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kind-config.yaml")
	return path, os.WriteFile(path, data, 0o600)
}

// setShared puts a directory of this machine into the mount of SharedDir.
func setShared(mounts []v1alpha4.Mount, shared string) error {
	for i, mount := range mounts {
		if mount.ContainerPath == SharedDir {
			mounts[i].HostPath = shared
			return nil
		}
	}
	return errors.New("it has no extraMounts with the containerPath " + SharedDir)
}
