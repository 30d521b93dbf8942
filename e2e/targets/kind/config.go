package kind

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// SharedDir is where each node has the directory that all of them share.
const SharedDir = "/var/lib/studio-go-runner"

// cgroupV1 has kubelet run where cgroups are of the first version.
const cgroupV1 = "failCgroupV1: false"

// writeConfig copies the repository's kind configuration into dir, with a setting of
// kubelet added to it, or none, and the shared directory in its place. It returns the
// copy.
func writeConfig(c Config, dir, kubelet string) (string, error) {
	data, err := os.ReadFile(c.ConfigFile)
	if err != nil {
		return "", err
	}
	text := string(data)
	for _, change := range []struct{ old, new string }{
		{"hostPath: " + SharedDir + "\n", fmt.Sprintf("hostPath: %q\n", c.Shared)},
		{"    kind: KubeletConfiguration\n", "    kind: KubeletConfiguration\n    " + kubelet + "\n"},
	} {
		if !strings.Contains(text, change.old) {
			return "", fmt.Errorf("%s has no line %q", c.ConfigFile, change.old)
		}
		text = strings.ReplaceAll(text, change.old, change.new)
	}
	path := filepath.Join(dir, "kind-config.yaml")
	return path, os.WriteFile(path, []byte(text), 0o600)
}
