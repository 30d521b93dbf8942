package programs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

// envtestUse is setup-envtest where there is internet, called with $4 as the
// option for its store.
const envtestUse = `[ "$3" = use ] || exit 0
[ "$6" = 1.37.x ] || exit 4
dir=${5#--bin-dir=}/k8s/1.37.0
mkdir -p "$dir"
for name in etcd kube-apiserver kubectl; do printf x >"$dir/$name"; chmod +x "$dir/$name"; done
echo "$dir"`

// What envtest publishes is taken before eight minutes of building, for a bounded
// time, and asked for once; what was built here comes first.
func TestEnsureControlPlane(t *testing.T) {
	for _, c := range []struct {
		name, tool string
		dir        string // how the directory's name begins
		builds     int
		says       string
	}{
		{"internet", envtestUse, "envtest-v1.37.2", 0, "downloading it"},
		{"no internet", "echo 'no such host' >&2; exit 1", "controlplane-", 3, "it cannot be downloaded: make envtest's control plane: go tool: exit status 1 no such host"},
		{"a firewall that drops", `[ "$2" = -n ] || exec sleep 60`, "controlplane-", 3, "setup-envtest list does not end in 200ms"},
		{"no such version", `[ "$2" = -n ] || [ "$3" = list ] || exit 1`, "controlplane-", 3, "it cannot be downloaded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := time.Minute
			if strings.Contains(c.tool, "sleep") {
				limit = 200 * time.Millisecond
			}
			defer programs.SetListTimeout(limit)()
			writeModule(t)
			builds := fakeTools(t, c.tool, makeProgram)
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			var progress strings.Builder
			dir, err := programs.EnsureControlPlane(t.Context(), &progress)
			if err != nil || !strings.HasPrefix(filepath.Base(dir), c.dir) {
				t.Fatalf("got %q, %v", dir, err)
			}
			for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(progress.String(), c.says) {
				t.Errorf("progress is %q", progress.String())
			}
			progress.Reset()
			again, err := programs.EnsureControlPlane(t.Context(), &progress)
			if err != nil || again != dir || progress.String() != "" {
				t.Errorf("the second time: got %q, %v, %q", again, err, progress.String())
			}
			if n := builds(); n != c.builds {
				t.Errorf("%d builds, want %d", n, c.builds)
			}
		})
	}
}
