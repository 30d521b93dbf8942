package assets_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/target/embedded/assets"
)

const goMod = `module example.test/controlplane

require (
	go.etcd.io/etcd/server/v3 v3.7.0 // indirect
	k8s.io/kubernetes v1.37.2 // indirect
)
`

// writeModule writes a module like e2e/controlplane and returns its directory
// and that of the module around it.
func writeModule(t *testing.T) (root, nested string) {
	t.Helper()
	root = t.TempDir()
	nested = filepath.Join(root, "e2e", "controlplane")
	if err := os.MkdirAll(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(nested, "go.mod"), goMod, 0o644)
	write(t, filepath.Join(nested, "go.sum"), "k8s.io/kubernetes v1.37.2 h1:x=\n", 0o644)
	return root, nested
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// fakeGo puts a go command into PATH that answers for the module in root. It
// notes each build in a file beside itself and ends builds with the shell code
// given, which may use $out, the directory for the binaries.
func fakeGo(t *testing.T, root, end string) (builds func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "builds")
	script := fmt.Sprintf(`#!/bin/sh
case "$1" in
env) echo %q ;;
list) printf 'fmt\nexample.test/a\nexample.test/b\n' ;;
build)
	echo build >>%q
	while [ "$1" != -o ]; do shift; done
	out=$2
	echo example.test/a >&2
	echo 'go: downloading example.test/b v1.0.0' >&2
	%s
	;;
*) echo "unexpected go $*" >&2; exit 3 ;;
esac
`, filepath.Join(root, "go.mod"), log, end)
	write(t, filepath.Join(dir, "go"), script, 0o755)
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return func() int {
		data, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(data), "\n")
	}
}

const makeBinaries = `for name in server kube-apiserver kubectl; do printf x >"$out$name"; chmod +x "$out$name"; done`

func TestEnsureBuildsOnce(t *testing.T) {
	root, _ := writeModule(t)
	builds := fakeGo(t, root, makeBinaries)
	t.Setenv(assets.EnvAssets, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())

	var progress strings.Builder
	dirs := make([]string, 4)
	var group sync.WaitGroup
	for i := range dirs {
		group.Go(func() {
			out := io.Discard
			if i == 0 {
				out = &progress
			}
			var err error
			if dirs[i], err = assets.Ensure(t.Context(), out); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got, want := builds(), 1; got != want {
		t.Errorf("built %d times, want %d", got, want)
	}
	path, err := assets.Path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if dir != path {
			t.Errorf("Ensure returned %q, Path %q", dir, path)
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if _, err := os.Stat(filepath.Join(path, name)); err != nil {
			t.Error(err)
		}
	}
	if text := progress.String(); !strings.Contains(text, "Kubernetes v1.37.2") && !strings.Contains(text, "waiting for it") {
		t.Errorf("progress is %q", text)
	}
}

func TestEnsureShowsCompilerOutput(t *testing.T) {
	root, _ := writeModule(t)
	fakeGo(t, root, `printf '# example.test/b\nb.go:7:2: undefined: x\n' >&2; exit 1`)
	t.Setenv(assets.EnvAssets, "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	_, err := assets.Ensure(t.Context(), io.Discard)
	if err == nil {
		t.Fatal("no error")
	}
	if text := err.Error(); !strings.Contains(text, "b.go:7:2: undefined: x") || strings.Contains(text, "downloading") {
		t.Errorf("error is %q", text)
	}
	path, err := assets.Path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 { // the lock
		t.Errorf("a failed build left %q", left)
	}
}

func TestEnsureUsesGivenDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(assets.EnvAssets, dir)
	write(t, filepath.Join(dir, "etcd"), "", 0o755)
	_, err := assets.Ensure(t.Context(), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "it has no kube-apiserver") {
		t.Errorf("error for an incomplete directory is %v", err)
	}
	write(t, filepath.Join(dir, "kube-apiserver"), "", 0o755)
	got, err := assets.Ensure(t.Context(), io.Discard)
	if err != nil || got != dir {
		t.Errorf("got %q, %v, want %q", got, err, dir)
	}
}

func TestKeyDependsOnModule(t *testing.T) {
	_, dir := writeModule(t)
	first, flags, err := assets.VersionFlags(dir)
	if err != nil {
		t.Fatal(err)
	}
	const pkg = "k8s.io/component-base/version"
	if want := "-s -w -X " + pkg + ".gitVersion=v1.37.2 -X " + pkg + ".gitMajor=1 -X " + pkg + ".gitMinor=37"; flags != want {
		t.Errorf("linker flags\n got %s\nwant %s", flags, want)
	}
	write(t, filepath.Join(dir, "go.sum"), "changed\n", 0o644)
	second, _, err := assets.VersionFlags(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("the key is the same after a change of go.sum")
	}
	write(t, filepath.Join(dir, "go.mod"), "module example.test/controlplane\n", 0o644)
	if _, _, err := assets.VersionFlags(dir); err == nil {
		t.Error("no error for a module without Kubernetes")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := assets.Lock(t.Context(), path, func() { t.Error("waited for a free lock") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := assets.Lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error for a cancelled wait is %v", err)
	}
	again, err := assets.Lock(t.Context(), path, release)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
