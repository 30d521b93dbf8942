package kind

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SharedDir is where each node has the directory that all of them share.
const SharedDir = "/var/lib/studio-go-runner"

// cgroupV1, added to the repository's kind configuration, has kubelet run where
// cgroups are of the first version.
const cgroupV1 = `kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  apiVersion: kubelet.config.k8s.io/v1beta1
  failCgroupV1: false
`

// writeConfig copies the repository's kind configuration into dir, with what is
// added to it, and the shared directory in its place. It returns the copy.
func writeConfig(c Config, dir, added string) (string, error) {
	data, err := os.ReadFile(c.ConfigFile)
	if err != nil {
		return "", err
	}
	const theirs = "hostPath: " + SharedDir + "\n"
	text := strings.ReplaceAll(string(data), theirs, fmt.Sprintf("hostPath: %q\n", c.Shared))
	if text == string(data) {
		return "", fmt.Errorf("%s has no line %q", c.ConfigFile, theirs)
	}
	path := filepath.Join(dir, "kind-config.yaml")
	return path, os.WriteFile(path, []byte(text+added), 0o600)
}
