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
		ours    bool
		old     bool
		patches int
	}{
		{"published", false, false, 1},
		{"ours", true, false, 1},
		{"ours on cgroup v1", true, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, err := writeConfig(Config{ConfigFile: repository, Shared: "/shared"}, t.TempDir(), c.ours, c.old)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Kind                 string
				APIVersion           string `yaml:"apiVersion"`
				Networking           map[string]bool
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
			if got.Networking["disableDefaultCNI"] != c.ours {
				t.Errorf("disableDefaultCNI is %v", got.Networking["disableDefaultCNI"])
			}
			if len(got.KubeadmConfigPatches) != c.patches {
				t.Errorf("patches are %q", got.KubeadmConfigPatches)
			}
			for _, node := range got.Nodes {
				if len(node.ExtraMounts) != 1 || node.ExtraMounts[0]["hostPath"] != "/shared" || node.ExtraMounts[0]["containerPath"] != SharedDir {
					t.Errorf("%s: mounts are %+v", node.Role, node.ExtraMounts)
				}
			}
		})
	}
}

func TestWriteConfigSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"kind: [Cluster\n", "parse "},
		{"kind: Cluster\n", "has no nodes"},
		{"nodes: [{role: worker}]\n", "node 1: it has no extraMounts with the containerPath " + SharedDir},
	} {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := writeConfig(Config{ConfigFile: path, Shared: "/shared"}, t.TempDir(), false, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error is %v", c.text, err)
		}
	}
}
