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

// Without the variable the programs are those of e2e/airgap, wherever in the
// repository the tests run.
func TestEnsureAsksAirgap(t *testing.T) {
	t.Setenv(assets.EnvAssets, "")
	bin := t.TempDir()
	text := `#!/bin/sh
[ "$1" = list ] && echo /repository && exit
echo "$*" >&2
[ "$FAILS" = "" ] || exit 1
echo /programs
`
	if err := os.WriteFile(filepath.Join(bin, "go"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
	var progress strings.Builder
	dir, err := assets.Ensure(t.Context(), &progress)
	if err != nil || dir != "/programs" || progress.String() != "run -C /repository/e2e/airgap . controlplane\n" {
		t.Errorf("got %q, %v, progress %q", dir, err, progress.String())
	}
	t.Setenv("FAILS", "yes")
	if _, err := assets.Ensure(t.Context(), &progress); err == nil || !strings.Contains(err.Error(), assets.EnvAssets) {
		t.Errorf("error is %v", err)
	}
}
