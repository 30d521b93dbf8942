package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// besideLibc are the parts of glibc that a program need not be linked with and
// yet may open: NVIDIA's libnvidia-ml.so.1 needs them.
var besideLibc = []string{"libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"}

// libraries finds the files of this machine's C library, and of all others, that
// the programs in a tree need when they are started. They keep their paths,
// which are those where the loader looks. Those for another processor are in its
// sysroot, a directory as /usr/aarch64-linux-gnu.
func libraries(ctx context.Context, files tree, sysroot string) (tree, error) {
	programs, err := files.dynamic()
	if err != nil {
		return nil, err
	}
	if sysroot != "" {
		return foreign(programs, files, sysroot)
	}
	var loader string
	for _, p := range programs {
		if p.loader != "" {
			loader = p.loader
		}
	}
	found := tree{}
	if loader == "" {
		return found, nil // all are static
	}
	paths := []string{loader}
	for _, p := range programs {
		wanted, err := list(ctx, loader, p.file)
		if err != nil {
			return nil, err
		}
		paths = append(paths, wanted...)
	}
	libc := slices.IndexFunc(paths, func(file string) bool { return filepath.Base(file) == "libc.so.6" })
	if libc < 0 {
		return nil, errors.New("the programs are not linked with glibc, which NVIDIA's library needs; build them on a machine that has it")
	}
	for _, name := range besideLibc {
		paths = append(paths, filepath.Join(filepath.Dir(paths[libc]), name))
	}
	for _, file := range paths {
		source, err := filepath.EvalSymlinks(file)
		if err != nil {
			return nil, fmt.Errorf("find the C library: %w", err)
		}
		name := strings.TrimPrefix(file, "/")
		if _, given := files[name]; !given {
			found[name] = entry{kind: tar.TypeReg, mode: 0o755, source: source}
		}
	}
	return found, nil
}

// list asks the loader which libraries it would load for a program.
func list(ctx context.Context, loader, program string) ([]string, error) {
	c := exec.CommandContext(ctx, loader, "--list", program)
	c.Env = []string{"LC_ALL=C"} // no LD_LIBRARY_PATH: containers have none
	text, err := c.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s --list %s: %w: %s", loader, program, err, text)
	}
	var paths []string
	for line := range strings.Lines(string(text)) {
		library, where, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if !ok {
			continue // the kernel's own, or the loader
		}
		where, _, _ = strings.Cut(where, " (")
		if !filepath.IsAbs(where) {
			return nil, fmt.Errorf("%s needs %s, which is %s; install it, or name a base that has it", program, library, where)
		}
		paths = append(paths, where)
	}
	return paths, nil
}

// dynamic is a program or library that needs others.
type dynamic struct {
	file   string
	loader string // the program that starts it; libraries name none
	glibc  string // the version of glibc that it needs at least, as v2.34
}

// dynamic finds those in a tree, by name.
func (t tree) dynamic() ([]dynamic, error) {
	var all []dynamic
	for _, name := range slices.Sorted(maps.Keys(t)) {
		e := t[name]
		if e.source == "" {
			continue
		}
		d, err := readDynamic(e.source)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", e.source, err)
		}
		if d.file != "" {
			all = append(all, d)
		}
	}
	return all, nil
}

// readDynamic is empty for other files.
func readDynamic(file string) (dynamic, error) {
	f, err := os.Open(file)
	if err != nil {
		return dynamic{}, err
	}
	defer f.Close()
	magic := make([]byte, len(elf.ELFMAG))
	if n, _ := f.ReadAt(magic, 0); n < len(magic) || string(magic) != elf.ELFMAG {
		return dynamic{}, nil
	}
	e, err := elf.NewFile(f)
	if err != nil {
		return dynamic{}, err
	}
	if e.SectionByType(elf.SHT_DYNAMIC) == nil {
		return dynamic{}, nil
	}
	d := dynamic{file: file}
	if section := e.Section(".interp"); section != nil {
		text, err := section.Data()
		if err != nil {
			return dynamic{}, err
		}
		d.loader = string(bytes.TrimRight(text, "\x00"))
	}
	needs, err := e.DynamicVersionNeeds()
	if err != nil {
		return dynamic{}, err
	}
	for _, library := range needs {
		for _, version := range library.Needs {
			d.glibc = newer(d.glibc, version.Dep)
		}
	}
	return d, nil
}

// newer returns a version, or that of a symbol as GLIBC_2.34 if it is newer.
func newer(version, symbol string) string {
	number, ok := strings.CutPrefix(symbol, "GLIBC_")
	if ok && semver.IsValid("v"+number) && semver.Compare("v"+number, version) > 0 {
		return "v" + number
	}
	return version
}
