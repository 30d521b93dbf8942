package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/mod/semver"
)

// suits says why the files would not run on this base.
func (b base) suits(files tree, architecture string) error {
	config, err := b.image.ConfigFile()
	if err != nil {
		return fmt.Errorf("base %s: %w", b.says, err)
	}
	if config.Architecture != "" && config.Architecture != architecture {
		return fmt.Errorf("base %s is for %s, the files are for %s; name another base", b.says, config.Architecture, architecture)
	}
	programs, err := files.dynamic()
	if err != nil {
		return err
	}
	need := ""
	for _, p := range programs {
		if semver.Compare(p.glibc, need) > 0 {
			need = p.glibc
		}
	}

	has, links := "", map[string]string{}
	open := func() (io.ReadCloser, error) { return mutate.Extract(b.image), nil }
	err = each(open, func(h *tar.Header, content io.Reader) error {
		name := path.Clean(h.Name)
		if h.Typeflag == tar.TypeSymlink {
			links[name] = h.Linkname
		}
		// Until 2.33 libc.so.6 was a link to libc-2.33.so.
		if file := path.Base(name); h.Typeflag == tar.TypeReg && (file == "libc.so.6" || strings.HasPrefix(file, "libc-2.")) {
			if version := glibcVersion(content); semver.Compare(version, has) > 0 {
				has = version
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read base %s: %w", b.says, err)
	}
	for name := range files {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			// Docker would replace the link by a directory.
			if link, ok := links[dir]; ok {
				return fmt.Errorf("/%s: in base %s /%s is a link to %s; name the path without it", name, b.says, dir, link)
			}
		}
	}
	return enough(b.says, has, need)
}

// enough compares the glibc that a base has with the one that the files need.
func enough(base, has, need string) error {
	switch {
	case need != "" && has == "":
		return fmt.Errorf("base %s has no glibc, which the files need (at least %s); name one that has, as Debian's, Ubuntu's or Red Hat's", base, need[1:])
	case semver.Compare(has, need) < 0:
		return fmt.Errorf("base %s has glibc %s, the files need %s; name a newer base, or build on a system as old as this one", base, has[1:], need[1:])
	}
	return nil
}

// glibcVersion is the newest version of its symbols; empty if it is not glibc
// for this processor.
func glibcVersion(content io.Reader) (version string) {
	data, err := io.ReadAll(content)
	if err != nil {
		return ""
	}
	e, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	symbols, err := e.DynamicVersions()
	if err != nil {
		return ""
	}
	for _, s := range symbols {
		version = newer(version, s.Name)
	}
	return version
}
