package nodeimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// files is the content of a layer, by path in the image, without a leading
// slash. Directories come by themselves.
type files map[string]file

// file is one of them: what is in source, or the text, or a link.
type file struct {
	mode   fs.FileMode
	source string // a path on this machine
	text   string
	link   string
	dir    bool
}

// program adds a program.
func (f files) program(name, source string) { f[name] = file{mode: 0o755, source: source} }

// text adds a file that is written here.
func (f files) text(name, text string) { f[name] = file{mode: 0o644, text: text} }

// symlink adds a link.
func (f files) symlink(name, to string) { f[name] = file{mode: 0o777, link: to} }

// remove hides a file of a lower layer.
func (f files) remove(name string) {
	f[path.Join(path.Dir(name), ".wh."+path.Base(name))] = file{mode: 0o644}
}

// tree adds a directory of this machine, with all in it.
func (f files) tree(name, source string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		to := filepath.ToSlash(filepath.Join(name, relative))
		switch {
		case info.IsDir():
			f[to] = file{mode: info.Mode().Perm(), dir: true}
		case info.Mode().IsRegular():
			f[to] = file{mode: info.Mode().Perm(), source: path}
		default:
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		return nil
	})
}

// layer writes the files into an archive, which the layer reads. The same files
// make the same archive.
func (f files) layer(archive string, options ...tarball.LayerOption) (v1.Layer, error) {
	out, err := os.Create(archive)
	if err != nil {
		return nil, err
	}
	err = f.write(tar.NewWriter(out))
	if err := errors.Join(err, out.Close()); err != nil {
		return nil, fmt.Errorf("write layer: %w", err)
	}
	return tarball.LayerFromFile(archive, options...)
}

// write writes the files in order, each after its directories.
func (f files) write(out *tar.Writer) error {
	all := maps.Clone(f)
	for name := range f {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = file{mode: 0o755, dir: true}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if err := all[name].write(out, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return out.Close()
}

// write writes one file. It belongs to root, and has no date.
func (f file) write(out *tar.Writer, name string) error {
	header := &tar.Header{Name: name, Mode: int64(f.mode), Typeflag: tar.TypeReg, Format: tar.FormatPAX}
	var content io.Reader = strings.NewReader(f.text)
	header.Size = int64(len(f.text))
	switch {
	case f.dir:
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
	case f.link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.link
	case f.source != "":
		source, err := os.Open(f.source)
		if err != nil {
			return err
		}
		defer source.Close()
		info, err := source.Stat()
		if err != nil {
			return err
		}
		header.Size, content = info.Size(), source
	}
	if err := out.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(out, content)
	return err
}

// namesIn are the paths in an archive, without leading "./".
func namesIn(archive string) ([]string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var names []string
	for in := tar.NewReader(file); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", archive, err)
		}
		names = append(names, path.Clean(header.Name))
	}
}

// replaceLine replaces what follows a prefix in its line of a text.
func replaceLine(text []byte, prefix, value string) ([]byte, error) {
	before, rest, found := bytes.Cut(text, []byte(prefix))
	if !found {
		return nil, fmt.Errorf("it has no %q", prefix)
	}
	_, after, _ := bytes.Cut(rest, []byte("\n"))
	return slices.Concat(before, []byte(prefix+value+"\n"), after), nil
}
