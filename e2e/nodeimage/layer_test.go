package nodeimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLayer(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := files{}
	f.program("usr/bin/program", source)
	f.text("etc/version", "v1")
	f.symlink("etc/link", "/dev/null")
	f.remove("usr/lib/unit")
	f["opt/empty"] = file{mode: 0o700, dir: true}

	archive := filepath.Join(t.TempDir(), "layer.tar")
	if _, err := f.layer(archive); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for in := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%o %s %s%s", header.Mode, header.Name, header.Linkname, text)))
	}
	want := []string{
		"755 etc/", "777 etc/link /dev/null", "644 etc/version v1", "755 opt/", "700 opt/empty/", "755 usr/", "755 usr/bin/",
		"755 usr/bin/program x", "755 usr/lib/", "644 usr/lib/.wh.unit",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("layer (-want +got)\n%s", diff)
	}
	names, err := namesIn(archive)
	if err != nil || len(names) != len(want) || names[0] != "etc" {
		t.Errorf("names are %q, %v", names, err)
	}
	if err := f.write(tar.NewWriter(io.Discard)); err != nil {
		t.Error(err)
	}
	f.program("missing", filepath.Join(t.TempDir(), "missing"))
	if err := f.write(tar.NewWriter(io.Discard)); err == nil || !strings.Contains(err.Error(), "missing: ") {
		t.Errorf("error for a missing program is %v", err)
	}
}

func TestReplaceLine(t *testing.T) {
	got, err := replaceLine([]byte("[a]\n  key = 1\n  other = 2\n"), "key = ", `"x"`)
	if want := "[a]\n  key = \"x\"\n  other = 2\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := replaceLine([]byte("[a]\n"), "key = ", "x"); err == nil {
		t.Error("no error for a missing line")
	}
}

func TestTagIsStable(t *testing.T) {
	first, err := Tag(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := Tag(t.Context())
	if err != nil || first != second || !strings.HasPrefix(first, "studio-go-runner/node:v1.") {
		t.Errorf("tags are %q and %q, %v", first, second, err)
	}
}

func TestProgressIsTheLastLine(t *testing.T) {
	var shown strings.Builder
	l := &lastLines{out: &shown, name: "debootstrap"} // last shown long ago
	for _, text := range []string{"I: Retrie", "ving a\nI: Retrieving b\n", strings.Repeat("I: more\n", 30)} {
		if _, err := l.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := shown.String(), "debootstrap: I: Retrieving a\n"; got != want {
		t.Errorf("shown is %q, want %q", got, want)
	}
	if len(l.lines) != 20 {
		t.Errorf("%d lines are kept for an error", len(l.lines))
	}
}
