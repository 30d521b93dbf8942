package assets_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
)

func TestEnsureUsesGivenDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(assets.EnvAssets, dir)
	write := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("etcd")
	_, err := assets.Ensure(t.Context(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "it has no kube-apiserver") {
		t.Errorf("error for an incomplete directory is %v", err)
	}
	write("kube-apiserver")
	got, err := assets.Ensure(t.Context(), t.Output())
	if err != nil || got != dir {
		t.Errorf("got %q, %v, want %q", got, err, dir)
	}
}
