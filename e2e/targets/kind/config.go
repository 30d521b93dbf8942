package kind

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	yaml "go.yaml.in/yaml/v3"
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
	var config map[string]any // kind itself says which fields it does not know
	if err := yaml.Unmarshal(data, &config); err != nil {
		return "", fmt.Errorf("parse %s: %w", source, err)
	}
	nodes, _ := config["nodes"].([]any)
	if len(nodes) == 0 {
		return "", fmt.Errorf("%s has no nodes", source)
	}
	for i, node := range nodes {
		if err := setShared(node, c.Shared); err != nil {
			return "", fmt.Errorf("%s: node %d: %w", source, i+1, err)
		}
	}
	if ourNetwork {
		networking, _ := config["networking"].(map[string]any)
		if networking == nil {
			networking = map[string]any{}
		}
		networking["disableDefaultCNI"] = true
		config["networking"] = networking
	}
	if oldCgroups {
		patches, _ := config["kubeadmConfigPatches"].([]any)
		config["kubeadmConfigPatches"] = append(patches, cgroupV1)
	}
	if data, err = yaml.Marshal(config); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "kind-config.yaml")
	return path, os.WriteFile(path, data, 0o600)
}

// setShared puts a directory of this machine into a node's mount of SharedDir.
func setShared(node any, shared string) error {
	fields, _ := node.(map[string]any)
	mounts, _ := fields["extraMounts"].([]any)
	for _, m := range mounts {
		if mount, _ := m.(map[string]any); mount["containerPath"] == SharedDir {
			mount["hostPath"] = shared
			return nil
		}
	}
	return errors.New("it has no extraMounts with the containerPath " + SharedDir)
}
