package main

import (
	"cmp"
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one that is linked into the runner, and what it costs.
type Module struct {
	Path, For    string
	Bytes        int
	Microseconds float64 // of its packages' initialisation
	Heap         int     // bytes that those allocate
}

// The rows of what belongs to no module.
const (
	standard = "Go's standard library"
	shared   = "data that the linker makes for all of them"
)

// linkedForm has go list print the module of each package, and whether it is linked
// only because another needs it.
const linkedForm = "{{with .Module}}{{if not .Main}}{{.Path}} {{.Indirect}}{{end}}{{end}}"

// KiB is its size in the program.
func (m Module) KiB() int { return m.Bytes >> 10 }

// Memory is what its initialisation allocates, in KiB.
func (m Module) Memory() int { return m.Heap >> 10 }

// dependencies builds the runner as it ships, but with symbols, and adds up by module
// what is in it and what happens before main.
func (p *Plan) dependencies(ctx context.Context) ([]Module, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "runner")
	var linked, inits string
	for _, step := range []struct {
		out     *string
		command []string
	}{
		{&linked, []string{"go", "list", "-deps", "-f", linkedForm, "./runner"}},
		{new(string), []string{"go", "build", "-trimpath", "-ldflags=-extldflags=-Wl,-z,lazy", "-o", program, "./runner"}},
		{&inits, []string{"env", "GODEBUG=inittrace=1", program, "version"}},
	} {
		out, err := exec.CommandContext(ctx, step.command[0], step.command[1:]...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("what the runner depends on: %v: %w: %s", step.command[:2], err, out)
		}
		*step.out = string(out)
	}
	symbols, loaded, err := symbolsOf(program)
	if err != nil {
		return nil, err
	}
	return p.addUp(linked, symbols, loaded, inits)
}

// symbolsOf are those of a program that take room in its file, and loaded is how much of
// that there is to load.
func symbolsOf(program string) (symbols []elf.Symbol, loaded int, err error) {
	file, err := elf.Open(program)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	inFile := func(s *elf.Section) bool { return s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS }
	for _, s := range file.Sections {
		if inFile(s) {
			loaded += int(s.Size)
		}
	}
	all, err := file.Symbols()
	for _, s := range all {
		if at := int(s.Section); at < len(file.Sections) && inFile(file.Sections[at]) {
			symbols = append(symbols, s)
		}
	}
	return symbols, loaded, err
}

// addUp puts the table together from what the commands print and the program has. The modules that
// another one brings come without a purpose of their own.
func (p *Plan) addUp(linked string, symbols []elf.Symbol, loaded int, inits string) ([]Module, error) {
	const ours = "github.com/studioml/studio-go-runner"
	modules := map[string]*Module{ours: {Path: ours, For: "the runner itself"}, standard: {Path: standard}, shared: {Path: shared, For: "types, strings, tables of functions and lines"}}
	for line := range strings.Lines(linked) {
		var path, indirect string
		fmt.Sscan(line, &path, &indirect)
		purpose := p.Dependencies[path]
		switch {
		case path == "" || modules[path] != nil:
			continue
		case indirect == "true":
			purpose = cmp.Or(purpose, "needed by others of these")
		case purpose == "":
			return nil, fmt.Errorf("rows.yaml: dependencies must say what %s is for", path)
		}
		modules[path] = &Module{Path: path, For: purpose}
	}
	paths := slices.SortedFunc(maps.Keys(modules), func(a, b string) int { return len(b) - len(a) })
	of := func(name, otherwise string) *Module {
		for _, path := range paths {
			if strings.Contains(name, path+"/") || strings.Contains(name, path+".") || name == path {
				return modules[path]
			}
		}
		return modules[otherwise]
	}
	for _, s := range symbols {
		name, otherwise := s.Name, standard
		if strings.HasPrefix(name, "main.") {
			name = ours
		}
		if strings.HasPrefix(name, "type:") || strings.HasPrefix(name, "go:") {
			otherwise = shared
		}
		of(name, otherwise).Bytes += int(s.Size)
		loaded -= int(s.Size)
	}
	modules[shared].Bytes += loaded
	for line := range strings.Lines(inits) {
		var pkg string
		var at, clock float64
		var bytes int
		if n, _ := fmt.Sscanf(line, "init %s @%f ms, %f ms clock, %d bytes", &pkg, &at, &clock, &bytes); n == 4 {
			m := of(pkg, standard)
			m.Microseconds, m.Heap = m.Microseconds+1000*clock, m.Heap+bytes
		}
	}
	all := slices.SortedFunc(maps.Values(modules), func(a, b *Module) int { return cmp.Or(b.Bytes-a.Bytes, strings.Compare(a.Path, b.Path)) })
	var table []Module
	for _, m := range all {
		table = append(table, *m)
	}
	return table, nil
}
