package programs_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

const goMod = `module example.test/controlplane

require (
	go.etcd.io/etcd/server/v3 v3.7.0 // indirect
	k8s.io/kubernetes v1.37.2 // indirect
)
`

// writeModule writes a module like e2e/airgap/controlplane into a repository of its
// own, which it changes to, and returns its directory.
func writeModule(t *testing.T) (nested string) {
	t.Helper()
	root := t.TempDir()
	nested = filepath.Join(root, "e2e", "airgap", "controlplane")
	if err := os.MkdirAll(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(nested, "go.mod"), goMod, 0o644)
	write(t, filepath.Join(nested, "go.sum"), "k8s.io/kubernetes v1.37.2 h1:x=\n", 0o644)
	t.Chdir(root)
	return nested
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// fakeGo puts a go command into PATH. It notes each build in a file beside itself
// and ends builds with the shell code given, which may use $out, the file for the
// program.
func fakeGo(t *testing.T, end string) (builds func() int) { return fakeTools(t, "exit 1", end) }

// fakeTools is fakeGo with shell code for go tool, which is setup-envtest here.
func fakeTools(t *testing.T, tool, end string) (builds func() int) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "builds")
	script := fmt.Sprintf(`#!/bin/sh
case "$1" in
tool) %s ;;
build)
	echo build >>%q
	while [ "$1" != -o ]; do shift; done
	out=$2
	%s
	;;
*) echo "unexpected go $*" >&2; exit 3 ;;
esac
`, tool, log, end)
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

const makeProgram = `printf x >"$out"; chmod +x "$out"`

func TestEnsureBuildsOnce(t *testing.T) {
	writeModule(t)
	builds := fakeGo(t, makeProgram)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())

	var progress strings.Builder
	built := make([]programs.Built, 4)
	var group sync.WaitGroup
	for i := range built {
		group.Go(func() {
			out := io.Discard
			if i == 0 {
				out = &progress
			}
			var err error
			if built[i], err = programs.ControlPlane.Ensure(t.Context(), out); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got, want := builds(), 3; got != want { // a program each
		t.Errorf("built %d times, want %d", got, want)
	}
	where, err := programs.ControlPlane.Locate()
	if err != nil {
		t.Fatal(err)
	}
	if where.Version != "v1.37.2" {
		t.Errorf("version is %q", where.Version)
	}
	for _, b := range built {
		if b != where {
			t.Errorf("Ensure returned %+v, Locate %+v", b, where)
		}
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kubectl"} {
		if _, err := os.Stat(filepath.Join(where.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if text := progress.String(); !strings.Contains(text, "k8s.io/kubernetes v1.37.2") && !strings.Contains(text, "waiting for it") {
		t.Errorf("progress is %q", text)
	}
}

func TestEnsureShowsCompilerOutput(t *testing.T) {
	writeModule(t)
	fakeGo(t, `printf '# example.test/b\nb.go:7:2: undefined: x\n' >&2; exit 1`)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	_, err := programs.ControlPlane.Ensure(t.Context(), io.Discard)
	if err == nil {
		t.Fatal("no error")
	}
	if text := err.Error(); !strings.Contains(text, "b.go:7:2: undefined: x") {
		t.Errorf("error is %q", text)
	}
	where, err := programs.ControlPlane.Locate()
	if err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(where.Dir + "*"); len(left) != 1 { // the lock
		t.Errorf("a failed build left %q", left)
	}
}

func TestKey(t *testing.T) {
	dir := writeModule(t)
	fakeGo(t, "exit 1")
	keys := map[string]string{}
	locate := func(what string, set programs.Set) {
		t.Helper()
		built, err := set.Locate()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := keys[built.Key]; ok {
			t.Errorf("%s has the key of %s", what, other)
		}
		keys[built.Key] = what
	}
	locate("the control plane", programs.ControlPlane)
	locate("other programs of the module", programs.Node)
	tagged := programs.ControlPlane
	tagged.Tags = "tag"
	locate("a build with a tag", tagged)
	write(t, filepath.Join(dir, "go.sum"), "changed\n", 0o644)
	locate("a changed go.sum", programs.ControlPlane)
	write(t, filepath.Join(dir, "go.mod"), "module example.test/controlplane\n", 0o644)
	if _, err := programs.ControlPlane.Locate(); err == nil || !strings.Contains(err.Error(), "does not require k8s.io/kubernetes") {
		t.Errorf("error for a module without Kubernetes is %v", err)
	}
}

func TestKubernetesReportsItsVersion(t *testing.T) {
	const pkg = "k8s.io/component-base/version"
	want := "-s -w -X " + pkg + ".gitVersion=v1.37.2 -X " + pkg + ".gitMajor=1 -X " + pkg + ".gitMinor=37"
	if got := programs.Node.Flags("v1.37.2"); got != want {
		t.Errorf("linker flags\n got %s\nwant %s", got, want)
	}
}

// Each nested module pins all that its sets need.
func TestSetsAreInTheirModules(t *testing.T) {
	for _, set := range []programs.Set{programs.ControlPlane, programs.Node, programs.Containerd, programs.CoreDNS} {
		built, err := set.Locate()
		if err != nil {
			t.Errorf("%s: %v", set.Name, err)
			continue
		}
		data, err := os.ReadFile(filepath.Join("..", "..", "..", filepath.FromSlash(set.Module), "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range set.Packages {
			if !strings.Contains(string(data), pkg+"\n") {
				t.Errorf("%s %s: its go.mod has no tool %s", set.Name, built.Version, pkg)
			}
		}
	}
}
