package main

import (
	"archive/tar"
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// openBase finds a base for a platform on the disk, in Docker or in a registry, in
// this order. What it has to fetch lies in the directory work.
func openBase(ctx context.Context, what, work string, platform v1.Platform) (base, error) {
	info, err := os.Stat(what)
	switch {
	case err == nil && info.IsDir():
		return openLayout(what, platform)
	case err == nil:
		return openArchive(what, work, platform)
	case !errors.Is(err, fs.ErrNotExist):
		return base{}, fmt.Errorf("base: %w", err)
	}
	saved := filepath.Join(work, "docker.tar")
	text, dockerErr := exec.CommandContext(ctx, "docker", "save", "-o", saved, what).CombinedOutput()
	if dockerErr == nil {
		b, err := openArchive(saved, work, platform)
		b.says = what + ", from Docker"
		return b, err
	}
	b, err := pull(ctx, what, work, platform)
	if err != nil {
		return base{}, fmt.Errorf("base %s: it is not on the disk, Docker does not have it (%s), and no registry (%w); "+
			"name the file of a root file system or an image, a directory with an OCI layout, or an image", what,
			cmp.Or(strings.TrimSpace(string(text)), dockerErr.Error()), err)
	}
	return b, nil
}

// pull fetches an image once, although it is read twice.
func pull(ctx context.Context, what, work string, platform v1.Platform) (base, error) {
	reference, err := name.ParseReference(what)
	if err != nil {
		return base{}, err
	}
	image, err := remote.Image(reference, remote.WithContext(ctx), remote.WithPlatform(platform), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	if err != nil {
		return base{}, err
	}
	dir := filepath.Join(work, "pulled")
	store, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = store.AppendImage(image)
	}
	if err != nil {
		return base{}, err
	}
	b, err := openLayout(dir, platform)
	b.says = reference.Name() + ", from its registry"
	return b, err
}

// openLayout opens a directory with an OCI layout.
func openLayout(dir string, platform v1.Platform) (base, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return base{}, fmt.Errorf("base %s is no OCI layout: %w", dir, err)
	}
	image, err := pick(index, platform)
	if err != nil {
		return base{}, fmt.Errorf("base %s: %w", dir, err)
	}
	return base{says: dir + ", an OCI layout", image: image}, nil
}

// pick finds the first image for a platform.
func pick(index v1.ImageIndex, platform v1.Platform) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, m := range manifest.Manifests {
		switch {
		case m.MediaType.IsIndex():
			below, err := index.ImageIndex(m.Digest)
			if err != nil {
				return nil, err
			}
			if image, err := pick(below, platform); err == nil {
				return image, nil
			}
		case m.MediaType.IsImage() && (m.Platform == nil || m.Platform.Satisfies(platform)):
			return index.Image(m.Digest)
		}
	}
	return nil, fmt.Errorf("it has no image for %s", platform)
}

// openArchive opens what docker save or an OCI tool wrote, or the tar file of a
// root file system. Each may be packed with gzip.
func openArchive(file, work string, platform v1.Platform) (base, error) {
	open := func() (io.ReadCloser, error) { return unpacked(file) }
	kind, err := archiveKind(open)
	if err != nil {
		return base{}, fmt.Errorf("base %s: %w; allowed are an image archive and the tar file of a root file system, plain or with gzip", file, err)
	}
	var image v1.Image
	switch kind {
	case "manifest.json":
		kind = "an image archive"
		image, err = tarball.Image(open, nil)
	case "oci-layout":
		dir := filepath.Join(work, "oci")
		if err = extract(open, dir); err != nil {
			break
		}
		b, err := openLayout(dir, platform)
		b.says = file + ", an OCI archive"
		return b, err
	default:
		kind = "a root file system"
		var layer v1.Layer
		if layer, err = tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer)); err == nil {
			image, err = mutate.AppendLayers(scratch().image, layer)
		}
	}
	if err != nil {
		return base{}, fmt.Errorf("base %s: %w", file, err)
	}
	return base{says: file + ", " + kind, image: image}, nil
}

// unpacked opens a file, without its gzip.
func unpacked(file string) (io.ReadCloser, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	content := struct {
		io.Reader
		io.Closer
	}{bufio.NewReaderSize(f, 1<<16), f}
	magic, err := content.Reader.(*bufio.Reader).Peek(2)
	if err == nil && string(magic) == "\x1f\x8b" {
		content.Reader, err = gzip.NewReader(content.Reader)
	} else if err == io.EOF {
		err = errors.New("it is empty")
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return content, nil
}

// archiveKind is the name of the file that tells what a tar file is, or root.
func archiveKind(open tarball.Opener) (kind string, err error) {
	kind = "root"
	err = each(open, func(h *tar.Header, _ io.Reader) error {
		switch name := path.Clean(h.Name); name {
		case "manifest.json":
			kind = name
			return io.EOF
		case "oci-layout":
			kind = name // docker save writes both
		}
		return nil
	})
	return kind, err
}

// each calls f for each entry, until the end or until f returns io.EOF.
func each(open tarball.Opener, f func(*tar.Header, io.Reader) error) error {
	file, err := open()
	if err != nil {
		return err
	}
	defer file.Close()
	r := tar.NewReader(file)
	for {
		h, err := r.Next()
		if err == nil {
			err = f(h, r)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// extract unpacks the files of an OCI archive.
func extract(open tarball.Opener, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // entries named ../ stay inside
	if err != nil {
		return err
	}
	defer root.Close()
	return each(open, func(h *tar.Header, content io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		if err := root.MkdirAll(path.Dir(path.Clean(h.Name)), 0o755); err != nil {
			return err
		}
		f, err := root.Create(path.Clean(h.Name))
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	})
}
