package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// program is built once: it opens, as NVIDIA's library does, parts of glibc
// that it is not linked with, and says as whom and with what it runs.
const program = `
#include <dlfcn.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(void) {
	const char *names[] = {"libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"};
	for (int i = 0; i < 4; i++)
		if (!dlopen(names[i], RTLD_NOW)) { puts(dlerror()); return 1; }
	struct passwd *user = getpwuid(65532);
	FILE *f = fopen("/tmp/file", "w");
	printf("%s %s\n", user ? user->pw_name : "unknown", f ? "writes" : "cannot write");
	return 0;
}`

var addProgram = "--add=" + compiled + "=/usr/local/bin/runner"

var compiled = filepath.Join(os.TempDir(), fmt.Sprintf("image-test-%d", os.Getpid()))

func TestMain(m *testing.M) {
	compile := exec.Command("gcc", "-x", "c", "-o", compiled, "-")
	compile.Stdin = strings.NewReader(program)
	if out, err := compile.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "compile the test's program: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.Remove(compiled)
	os.Exit(code)
}

// build runs the command and opens the archive that it writes.
func build(t *testing.T, args ...string) (v1.Image, string) {
	t.Helper()
	image, out, err := tryBuild(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return image, out
}

func tryBuild(t *testing.T, args ...string) (v1.Image, string, error) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	args = append([]string{"--name=test/runner:v1", "--output=" + archive}, args...)
	var out, errOut bytes.Buffer
	if code := run(t.Context(), args, &out, &errOut); code != 0 {
		if _, err := os.Stat(archive); err == nil {
			t.Error("an archive is there in spite of the error")
		}
		return nil, out.String(), errors.New(errOut.String())
	}
	tag, err := name.NewTag("test/runner:v1")
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		t.Fatalf("open the archive: %v", err)
	}
	return image, out.String(), nil
}

// contents is what a container of an image sees.
func contents(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	files := map[string]*tar.Header{}
	err := each(func() (io.ReadCloser, error) { return mutate.Extract(image), nil }, func(h *tar.Header, _ io.Reader) error {
		files[strings.TrimSuffix(h.Name, "/")] = h
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	d, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// unpack writes the image to a directory.
func unpack(t *testing.T, image v1.Image) string {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command("tar", "-x", "-p", "-C", dir)
	c.Stdin = mutate.Extract(image)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	return dir
}

// inside runs the image's program as a container would.
func inside(t *testing.T, image v1.Image) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, for chroot")
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(config.Config.Entrypoint[0])
	c.Env, c.Dir = config.Config.Env, "/"
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: unpack(t, image), Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("the program in the image: %v\n%s", err, out)
	}
	return string(out)
}

func TestWithoutABaseTheProgramHasWhatItNeeds(t *testing.T) {
	image, out := build(t, addProgram, "--entrypoint=/usr/local/bin/runner", "--title=a title", "--version=v1", "--revision=abc", "--created=1700000000", "--env=A=b")
	if err := validate.Image(image); err != nil {
		t.Errorf("the image is damaged: %v", err)
	}
	if got, want := inside(t, image), "nonroot writes\n"; got != want {
		t.Errorf("the program says %q, want %q", got, want)
	}
	if files := contents(t, image); files["bin/sh"] != nil || files["tmp"].Mode != 0o1777 {
		t.Errorf("the image has a shell, or a /tmp with mode %o", files["tmp"].Mode)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/usr/local/bin/runner"}, Env: []string{searchPath, "A=b"},
		Labels: map[string]string{
			"org.opencontainers.image.title": "a title", "org.opencontainers.image.version": "v1", "org.opencontainers.image.revision": "abc",
			"org.opencontainers.image.source": "https://github.com/studioml/studio-go-runner", "org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if config.Created.Unix() != 1700000000 || config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("created %s for %s/%s", config.Created, config.OS, config.Architecture)
	}
	id, err := image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"test/runner:v1\n", id.String(), " MiB"} {
		if !strings.Contains(out, word) {
			t.Errorf("the output lacks %q:\n%s", word, out)
		}
	}
}

func TestEqualFilesMakeEqualImages(t *testing.T) {
	// One after the other, with other times, umasks and orders.
	make := func(mode os.FileMode, names ...string) string {
		dir := t.TempDir()
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
				t.Fatal(err)
			}
		}
		image, _ := build(t, "--created=1", "--add="+dir+"=/data")
		return digest(t, image)
	}
	first := make(0o600, "a", "b", "c")
	if second := make(0o644, "c", "b", "a"); first != second {
		t.Errorf("two builds have the digests %s and %s", first, second)
	}
	if other := make(0o644, "a", "b"); first == other {
		t.Error("another image has the same digest")
	}
}

func TestANewVersionIsOneNewLayer(t *testing.T) {
	one, _ := build(t, addProgram, "--created=1", "--version=v1")
	two, _ := build(t, addProgram, "--created=2", "--version=v2", "--add=image_test.go=/more")
	a, errA := one.Layers()
	b, errB := two.Layers()
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	low, errA := a[0].Digest()
	same, errB := b[0].Digest()
	if errA != nil || errB != nil || len(a) != 2 || len(b) != 2 || low != same {
		t.Errorf("the layers with the C library are %s and %s, of %d and %d layers", low, same, len(a), len(b))
	}
}

func TestAddedFiles(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "empty"), 0o700),
		os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o700),
		os.WriteFile(filepath.Join(dir, "deep", "er", "file"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "script"), nil, 0o700),
		os.Symlink("script", filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	image, _ := build(t, "--add="+dir+"=/opt/data")
	files := contents(t, image)
	got := map[string]string{}
	for file, h := range files {
		if strings.HasPrefix(file, "opt") {
			got[file] = fmt.Sprintf("%c %o %d:%d %s%s", h.Typeflag, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Format("2006"), h.Linkname)
		}
	}
	want := map[string]string{
		"opt": "5 755 0:0 1970", "opt/data": "5 755 0:0 1970", "opt/data/empty": "5 755 0:0 1970",
		"opt/data/deep": "5 755 0:0 1970", "opt/data/deep/er": "5 755 0:0 1970", "opt/data/deep/er/file": "0 644 0:0 1970",
		"opt/data/script": "0 755 0:0 1970", "opt/data/link": "2 777 0:0 1970script",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// rootfs is a root file system with the C library of this machine at other
// places than where the builder puts it, as the roots of distributions have it.
var rootfs = sync.OnceValue(func() v1.Layer {
	found, err := libraries(context.Background(), tree{"p": {kind: tar.TypeReg, source: compiled}}, "")
	if err != nil {
		panic(err)
	}
	root := tree{
		"etc/os-release": {kind: tar.TypeReg, mode: 0o644, text: "ID=test"}, "tmp": {kind: tar.TypeDir, mode: 0o1777},
		"etc/passwd": {kind: tar.TypeReg, mode: 0o644, text: "nobody:x:65532:65532:nobody:/:/bin/sh\n"},
	}
	for file, e := range found {
		top, rest, _ := strings.Cut(file, "/")
		root["usr/"+top+"/"+rest] = e
		root[top] = entry{kind: tar.TypeSymlink, mode: 0o777, link: "usr/" + top}
	}
	layer, err := root.layer(types.OCILayer, true)
	if err != nil {
		panic(err)
	}
	return layer
})

func configured(t *testing.T, image v1.Image) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Env: []string{"PATH=/opt/tools", "LANG=C"}, Entrypoint: []string{"/init"}, Cmd: []string{"up"}, StopSignal: "SIGQUIT",
		Labels: map[string]string{"vendor": "theirs", "org.opencontainers.image.title": "base"},
	}
	return config
}

func TestErrors(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // without Docker
	odd := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(odd, []byte(strings.Repeat("no archive ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	nothing := save(t, "nothing", func(io.Writer) error { return nil })
	noLibc := save(t, "none.tar", func(w io.Writer) error {
		layer, err := tree{"bin/sh": {kind: tar.TypeReg, mode: 0o755, text: "#"}}.layer(types.OCILayer, true)
		if err != nil {
			return err
		}
		return copyOf(layer.Uncompressed())(w)
	})
	root := save(t, "root.tar", func(w io.Writer) error { return copyOf(rootfs().Uncompressed())(w) })
	foreign := save(t, "foreign.tar", func(w io.Writer) error {
		image := baseImage(t)
		config := configured(t, image)
		config.Architecture = "vax"
		image, err := mutate.ConfigFile(image, config)
		if err != nil {
			return err
		}
		tag, err := name.NewTag("their/base:v1")
		if err != nil {
			return err
		}
		return tarball.Write(tag, image, w)
	})
	for _, test := range []struct {
		name string
		args []string
		want []string // parts of the message
	}{
		{"no destination", []string{"--add=image_test.go"}, []string{`--add "image_test.go"`, "SRC=DST"}},
		{"a relative destination", []string{"--add=image_test.go=x"}, []string{"begins with /"}},
		{"a source that is not there", []string{"--add=missing=/x"}, []string{"--add missing=/x", "no such file"}},
		{"a device", []string{"--add=/dev/null=/x"}, []string{"/dev/null is neither"}},
		{"a variable without a value", []string{"--env=A"}, []string{`--env "A"`, "NAME=VALUE"}},
		{"a bad name", []string{"--name=Upper:v1"}, []string{"name of the image", "Upper"}},
		{"no archive", []string{"--base=" + odd}, []string{odd, "root file system"}},
		{"an empty file", []string{"--base=" + nothing}, []string{nothing, "empty"}},
		{"no layout", []string{"--base=" + filepath.Dir(odd)}, []string{"no OCI layout"}},
		{"a base that is nowhere", []string{"--base=localhost:1/nowhere"}, []string{"localhost:1/nowhere", "not on the disk", "Docker", "registry", "connection refused"}},
		{"a base without glibc", []string{"--base=" + noLibc}, []string{"has no glibc", "Debian"}},
		{"a base for another processor", []string{"--base=" + foreign}, []string{"is for vax"}},
		{"a destination below a link of the base", []string{"--base=" + root, "--add=image_test.go=/lib64/x"}, []string{"/lib64/x", "is a link to usr/lib64"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := tryBuild(t, append(test.args, addProgram)...)
			for _, part := range test.want {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, want %q in it", err, part)
				}
			}
		})
	}
}

func TestAnOlderGlibcIsRefused(t *testing.T) {
	image := baseImage(t)
	b := base{says: "theirs", image: image}
	programs := tree{"p": {kind: tar.TypeReg, source: compiled}}
	if err := b.suits(programs, runtime.GOARCH); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ version, symbol, want string }{
		{"", "GLIBC_2.2.5", "v2.2.5"}, {"v2.9", "GLIBC_2.34", "v2.34"}, {"v2.34", "GLIBC_2.9", "v2.34"},
		{"v2.3", "GLIBC_PRIVATE", "v2.3"}, {"v2.3", "GLIBCXX_3.4", "v2.3"},
	} {
		if got := newer(test.version, test.symbol); got != test.want {
			t.Errorf("newer(%q, %q) is %q, want %q", test.version, test.symbol, got, test.want)
		}
	}
	if err := enough("theirs", "v2.31", "v2.34"); err == nil || !strings.Contains(err.Error(), "has glibc 2.31, the files need 2.34") {
		t.Errorf("glibc 2.31 where 2.34 is needed gives %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	for _, test := range []struct {
		name            string
		base, set, want []string
	}{
		{"nothing", nil, nil, []string{searchPath}},
		{"a PATH of the base", []string{"PATH=/x", "A=1"}, []string{"B=2"}, []string{"PATH=/x", "A=1", "B=2"}},
		{"others in their place", []string{"A=1", "AB=2", "PATH=/x"}, []string{"A=3", "PATH=/y"}, []string{"AB=2", "A=3", "PATH=/y"}},
	} {
		if diff := cmp.Diff(test.want, environment(test.base, test.set)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
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
