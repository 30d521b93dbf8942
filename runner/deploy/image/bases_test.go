package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// baseImage is an image with that root and a configuration of its own.
func baseImage(t *testing.T) v1.Image {
	t.Helper()
	image, err := mutate.AppendLayers(empty.Image, rootfs())
	if err == nil {
		image, err = mutate.ConfigFile(image, configured(t, image))
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// save writes a file and returns its name.
func save(t *testing.T, name string, write func(io.Writer) error) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// fakeDocker is a docker that has one image, or no image.
func fakeDocker(t *testing.T, has, archive string) {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
echo "$*" >>%s/calls
case "$1 $4" in
"save %s") exec /bin/cp %s "$3" ;;
save*) echo "no such image" >&2; exit 1 ;;
esac
`, dir, has, archive)
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("CALLS", filepath.Join(dir, "calls"))
}

func TestBases(t *testing.T) {
	tag, err := name.NewTag("their/base:v1")
	if err != nil {
		t.Fatal(err)
	}
	archive := save(t, "archive.tar", func(w io.Writer) error { return tarball.Write(tag, baseImage(t), w) })
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	for _, test := range []struct {
		name string
		says string // what the output calls it
		rest bool   // whether it has a configuration
		base func(t *testing.T) string
	}{
		{"the archive of docker save", "an image archive", true, func(*testing.T) string { return archive }},
		{"an OCI layout", "an OCI layout", true, func(t *testing.T) string { return ociLayout(t) }},
		{"an OCI archive", "an OCI archive", true, func(t *testing.T) string {
			dir := ociLayout(t)
			return save(t, "oci.tar", func(w io.Writer) error {
				tw := tar.NewWriter(w)
				return errors.Join(tw.AddFS(os.DirFS(dir)), tw.Close())
			})
		}},
		{"a root file system", "a root file system", false, func(t *testing.T) string {
			return save(t, "root.tar", func(w io.Writer) error { return copyOf(rootfs().Uncompressed())(w) })
		}},
		{"a packed root file system", "a root file system", false, func(t *testing.T) string {
			return save(t, "root.tar.gz", func(w io.Writer) error { return copyOf(rootfs().Compressed())(w) })
		}},
		{"an image of Docker", "from Docker", true, func(t *testing.T) string {
			fakeDocker(t, "their/base:v1", archive)
			return "their/base:v1"
		}},
		{"an image of a registry", "from its registry", true, func(t *testing.T) string {
			fakeDocker(t, "nothing", "nothing")
			reference, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/base:v1")
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(reference, baseImage(t)); err != nil {
				t.Fatal(err)
			}
			return reference.String()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, out := build(t, addProgram, "--base="+test.base(t), "--entrypoint=/usr/local/bin/runner", "--title=mine")
			if !strings.Contains(out, test.says) {
				t.Errorf("the output does not say that the base is %s:\n%s", test.says, out)
			}
			if got, want := inside(t, image), "nobody writes\n"; got != want {
				t.Errorf("the program says %q, want %q", got, want)
			}
			if layers, err := image.Layers(); err != nil || len(layers) != 2 {
				t.Errorf("%d layers, want the base's and one with the program: %v", len(layers), err)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			c := config.Config
			if len(c.Cmd) != 0 || c.StopSignal != "" || c.Entrypoint[0] != "/usr/local/bin/runner" || c.User != "65532:65532" || c.Labels["org.opencontainers.image.title"] != "mine" {
				t.Errorf("the base's program is still in the configuration: %+v", c)
			}
			if test.rest && (!slices.Equal(c.Env, []string{"PATH=/opt/tools", "LANG=C"}) || c.Labels["vendor"] != "theirs") {
				t.Errorf("the base's environment and labels are lost: %+v", c)
			}
		})
	}
}

func copyOf(r io.ReadCloser, err error) func(io.Writer) error {
	return func(w io.Writer) error {
		if err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return errors.Join(err, r.Close())
	}
}

// ociLayout has an index in its index, and in it an image for another machine.
func ociLayout(t *testing.T) string {
	t.Helper()
	platform := v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	other := platform
	other.Architecture = "other"
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: empty.Image, Descriptor: v1.Descriptor{Platform: &other}},
		mutate.IndexAddendum{Add: baseImage(t), Descriptor: v1.Descriptor{Platform: &platform}})
	dir := filepath.Join(t.TempDir(), "layout")
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})); err != nil {
		t.Fatal(err)
	}
	return dir
}
