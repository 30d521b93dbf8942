package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestLoad(t *testing.T) {
	fakeDocker(t, "nothing", "nothing")
	_, out := build(t, "--load", "--add=image_test.go=/x")
	calls, err := os.ReadFile(os.Getenv("CALLS"))
	if err != nil || !strings.Contains(string(calls), "load --quiet -i ") || !strings.Contains(out, "has loaded it") {
		t.Errorf("Docker was called with\n%s\nand the output is\n%s", calls, out)
	}
	t.Setenv("PATH", t.TempDir())
	if _, out := build(t, "--load", "--add=image_test.go=/x"); !strings.Contains(out, "docker load -i") {
		t.Errorf("without Docker the output does not say how to load the image:\n%s", out)
	}
}

func TestANameWithoutATag(t *testing.T) {
	archive := filepath.Join(t.TempDir(), "a.tar")
	var out bytes.Buffer
	if code := run(context.Background(), []string{"--name=runner", "-o", archive, "--add=image_test.go=/x"}, &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(archive) })
	if err != nil || len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"runner:latest"}) {
		t.Errorf("the archive names %+v, want runner:latest: %v", manifest, err)
	}
}
