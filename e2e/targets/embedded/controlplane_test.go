package embedded_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

// What is missing is said with what to do about it.
func TestPrograms(t *testing.T) {
	t.Setenv("KUBEBUILDER_ASSETS", "")
	if _, err := embedded.Programs(); err == nil || !strings.Contains(err.Error(), "run this with make") {
		t.Errorf("error without a directory is %v", err)
	}
	dir := t.TempDir()
	t.Setenv("KUBEBUILDER_ASSETS", dir)
	for _, program := range []string{"etcd", "kube-apiserver"} {
		if _, err := embedded.Programs(); err == nil || !strings.Contains(err.Error(), "it has no "+program) {
			t.Errorf("error without %s is %v", program, err)
		}
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := embedded.Programs(); err != nil || got != dir {
		t.Errorf("got %q, %v, want %q", got, err, dir)
	}
}
