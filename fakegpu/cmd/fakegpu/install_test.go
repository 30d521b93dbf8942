package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCreateIfAbsent(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	node := []string{"create", dir, "--if-absent", "--profile", "H100-80GB", "--count", "2", "--seed", "node-1"}
	succeed(t, node...)
	first := load(t, dir)
	if len(first.GPUs) != 2 {
		t.Fatalf("%d GPUs, want 2", len(first.GPUs))
	}
	succeed(t, "set", dir, "0", "temperature=88")
	changed := load(t, dir)
	node[6] = "4"
	succeed(t, node...)
	if diff := cmp.Diff(changed, load(t, dir)); diff != "" {
		t.Errorf("GPUs that were there are not kept (-before +after):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(dir, "state"), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := called(node...); code != 1 || !strings.Contains(stderr, "remove "+dir) {
		t.Errorf("with a damaged state it exits with %d and says %q, want advice to remove it", code, stderr)
	}
}

func TestInstall(t *testing.T) {
	source := library(t)
	dir := filepath.Join(t.TempDir(), "node", "lib")
	put := func(text string) os.FileInfo {
		t.Helper()
		if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		succeed(t, "--library", source, "install", dir)
		got, err := os.ReadFile(filepath.Join(dir, "libnvidia-ml.so.1"))
		if err != nil || string(got) != text {
			t.Errorf("the library is %q, want %q: %v", got, text, err)
		}
		info, err := os.Stat(filepath.Join(dir, "libnvidia-ml.so.1"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	first := put("one")
	if info, err := os.Stat(filepath.Join(dir, "fakegpu")); err != nil || info.Mode() != 0o755 {
		t.Errorf("the command is not there, or cannot be run: %v %v", info, err)
	}
	// A program that runs has the file mapped: it is left alone, or another file
	// takes its name.
	if again := put("one"); !os.SameFile(first, again) {
		t.Error("the same library was installed anew")
	}
	if second := put("two"); os.SameFile(first, second) {
		t.Error("the library was written over")
	}
	for name, want := range map[string]string{"nvidia-smi": "fakegpu", "libnvidia-ml.so": "libnvidia-ml.so.1"} {
		if link, err := os.Readlink(filepath.Join(dir, name)); link != want {
			t.Errorf("%s is a link to %q, want %s: %v", name, link, want, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 4 {
		t.Errorf("%v is in the directory, want the command, the library and a link to each: %v", left, err)
	}
}
