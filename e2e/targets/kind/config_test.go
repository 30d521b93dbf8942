package kind

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v3"
)

func TestWriteConfig(t *testing.T) {
	repository := filepath.Join("..", "..", "..", "kind-config.yaml")
	for _, c := range []struct {
		name    string
		kubelet string
		want    string
	}{
		{"as it is", "", "singleProcessOOMKill"},
		{"cgroup v1", cgroupV1, "failCgroupV1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, err := writeConfig(Config{ConfigFile: repository, Shared: "/sha: red"}, t.TempDir(), c.kubelet)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Kind                 string
				APIVersion           string   `yaml:"apiVersion"`
				KubeadmConfigPatches []string `yaml:"kubeadmConfigPatches"`
				Nodes                []struct {
					Role        string
					ExtraMounts []map[string]string `yaml:"extraMounts"`
				}
			}
			if err := yaml.Unmarshal(data, &got); err != nil {
				t.Fatal(err)
			}
			if got.Kind != "Cluster" || got.APIVersion != "kind.x-k8s.io/v1alpha4" || len(got.Nodes) != 3 {
				t.Errorf("got %+v", got)
			}
			if len(got.KubeadmConfigPatches) != 1 {
				t.Fatalf("patches are %q", got.KubeadmConfigPatches)
			}
			var kubelet map[string]any
			if err := yaml.Unmarshal([]byte(got.KubeadmConfigPatches[0]), &kubelet); err != nil || kubelet[c.want] == nil || kubelet["kind"] != "KubeletConfiguration" {
				t.Errorf("kubelet's patch is %v (%v), want %s in it", kubelet, err, c.want)
			}
			for _, node := range got.Nodes {
				if len(node.ExtraMounts) != 1 || node.ExtraMounts[0]["hostPath"] != "/sha: red" || node.ExtraMounts[0]["containerPath"] != SharedDir {
					t.Errorf("%s: mounts are %+v", node.Role, node.ExtraMounts)
				}
			}
		})
	}
}

func TestWriteConfigSaysWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte("nodes: [{role: worker}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := writeConfig(Config{ConfigFile: path, Shared: "/shared"}, t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "has no line \"hostPath: "+SharedDir) {
		t.Errorf("error is %v", err)
	}
}
