package main

import (
	"archive/tar"
	"debug/elf"
	"fmt"
	"path"
	"path/filepath"
	"runtime"
)

// architectures are the processors that programs here can be for, by Go's names.
var architectures = map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}

// architecture is the processor that the programs in a tree are for; that of this
// machine if there are none.
func (t tree) architecture() (string, error) {
	found := ""
	for name, e := range t {
		if e.source == "" {
			continue
		}
		f, err := elf.Open(e.source)
		if err != nil {
			continue // no program
		}
		is := architectures[f.Machine]
		f.Close()
		if found != "" && is != found {
			return "", fmt.Errorf("%s is for %s, another program is for %s; one image is for one processor", name, is, found)
		}
		found = is
	}
	if found == "" {
		return runtime.GOARCH, nil
	}
	return found, nil
}

// foreign finds the same files as libraries for programs of another processor,
// which this machine's loader cannot tell: it follows what each names. In the
// image they are where Debian's C library looks for them.
func foreign(programs []dynamic, files tree, sysroot string) (tree, error) {
	found := tree{}
	loader := ""
	var wanted []string
	for _, p := range programs {
		if p.loader != "" {
			loader = p.loader
			wanted = append(wanted, besideLibc...)
		}
		more, err := needs(p.file)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, more...)
	}
	if loader == "" {
		return found, nil // all are static
	}
	wanted = append(wanted, path.Base(loader))
	for len(wanted) > 0 {
		library := wanted[0]
		wanted = wanted[1:]
		name := path.Join("lib", filepath.Base(sysroot), library)
		if library == path.Base(loader) {
			name = path.Clean(loader)[1:]
		}
		if _, done := found[name]; done {
			continue
		}
		if _, given := files[name]; given {
			continue
		}
		source, err := filepath.EvalSymlinks(filepath.Join(sysroot, "lib", library))
		if err != nil {
			return nil, fmt.Errorf("find the C library: %w; install it for that processor, on Debian libc6-arm64-cross, or name its --sysroot", err)
		}
		found[name] = entry{kind: tar.TypeReg, mode: 0o755, source: source}
		more, err := needs(source)
		if err != nil {
			return nil, err
		}
		wanted = append(wanted, more...)
	}
	return found, nil
}

// needs lists the libraries that a program or library names.
func needs(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	return f.ImportedLibraries()
}
