package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tree is what a layer holds, by path in the image without the leading slash.
// Directories are in it only where nothing is in them.
type tree map[string]entry

// entry is a file, a symbolic link or a directory.
type entry struct {
	kind   byte   // a tar.Type
	mode   int64  // the permissions
	source string // the file that it is a copy of, or
	text   string // what is in it
	link   string // where it points to
}

// add reads SRC=DST.
func (t tree) add(argument string) error {
	source, target, ok := strings.Cut(argument, "=")
	if !ok || source == "" || !path.IsAbs(target) || path.Clean(target) == "/" {
		return fmt.Errorf("--add %q: must be SRC=DST with a path that begins with / as DST", argument)
	}
	// The source itself may be a link to what is meant.
	root, err := filepath.EvalSymlinks(source)
	if err != nil {
		return fmt.Errorf("--add %s: %w", argument, err)
	}
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		return t.copy(file, strings.TrimPrefix(path.Join(target, filepath.ToSlash(below)), "/"), d)
	})
	if err != nil {
		return fmt.Errorf("--add %s: %w", argument, err)
	}
	return nil
}

// copy adds one file, link or empty directory. Of the permissions only whether
// it can be run is kept: the rest is the umask of who made it.
func (t tree) copy(file, name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.Type() == fs.ModeSymlink:
		link, err := os.Readlink(file)
		t[name] = entry{kind: tar.TypeSymlink, mode: 0o777, link: link}
		return err
	case d.IsDir():
		inside, err := os.ReadDir(file)
		if len(inside) == 0 {
			t[name] = entry{kind: tar.TypeDir, mode: 0o755}
		}
		return err
	case d.Type().IsRegular():
		mode := int64(0o644)
		if info.Mode()&0o111 != 0 {
			mode = 0o755
		}
		t[name] = entry{kind: tar.TypeReg, mode: mode, source: file}
		return nil
	}
	return fmt.Errorf("%s is neither a file, a directory nor a link", file)
}

// layer packs the tree. With parents the directories above all entries are in
// it; without, they are those of the layers below, which may be links.
func (t tree) layer(media types.MediaType, parents bool) (v1.Layer, error) {
	all := maps.Clone(t)
	if parents {
		for name := range t {
			for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
				if _, given := all[dir]; !given {
					all[dir] = entry{kind: tar.TypeDir, mode: 0o755}
				}
			}
		}
	}
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := all[name].write(w, name); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(media), tarball.WithCompressionLevel(compression), tarball.WithCompressedCaching)
}

// compression is gzip's level: a fifth smaller than the package's default, and
// still seconds.
const compression = 6

func (e entry) write(w *tar.Writer, name string) error {
	text := []byte(e.text)
	if e.source != "" {
		var err error
		if text, err = os.ReadFile(e.source); err != nil {
			return err
		}
	}
	header := &tar.Header{Typeflag: e.kind, Name: name, Linkname: e.link, Mode: e.mode, Size: int64(len(text)), ModTime: time.Unix(0, 0)}
	if e.kind == tar.TypeDir {
		header.Name += "/"
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}
