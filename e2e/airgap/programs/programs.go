// Package programs builds what a cluster consists of from Go modules, so that no
// registry and no download site is needed. The versions are those of nested
// modules; a set of programs is built once per version, into the user's cache
// directory.
package programs

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/studioml/studio-go-runner/e2e/airgap/cache"
)

// Set is a set of programs that are built together.
type Set struct {
	Name     string            // of its directory in the cache
	What     string            // for messages
	Module   string            // the directory of the nested module in this repository
	Of       string            // the module in there whose version is the set's
	Packages map[string]string // of each program
	Tags     string            // build tags
	Flags    func(version string) string
	Takes    string // how long a build takes, for messages
}

// Built is a set at one version.
type Built struct {
	Dir     string // of the programs
	Version string // as v1.37.2
	Key     string // changes whenever other programs would come out
}

// Ensure builds the set unless it is there. It tells on progress what it does.
func (s Set) Ensure(ctx context.Context, progress io.Writer) (Built, error) {
	built, err := s.Locate()
	if err != nil {
		return Built{}, err
	}
	return built, cache.Ensure(ctx, built.Dir, s.What, progress, func(ctx context.Context, dir string) error {
		return s.build(ctx, built, dir, progress)
	})
}

// Locate says where Ensure has the programs, without building them.
func (s Set) Locate() (Built, error) {
	root, err := Root()
	if err != nil {
		return Built{}, err
	}
	built, err := s.read(filepath.Join(root, filepath.FromSlash(s.Module)))
	if err != nil {
		return Built{}, fmt.Errorf("read module %s: %w", s.Module, err)
	}
	dir, err := cache.Dir()
	if err != nil {
		return Built{}, err
	}
	built.Dir = filepath.Join(dir, s.Name+"-"+built.Key)
	return built, nil
}

// names are the programs, in order.
func (s Set) names() []string { return slices.Sorted(maps.Keys(s.Packages)) }

// read reads version and key from the module's own files.
func (s Set) read(dir string) (Built, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return Built{}, err
	}
	gosum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return Built{}, err
	}
	file, err := modfile.ParseLax(filepath.Join(dir, "go.mod"), gomod, nil)
	if err != nil {
		return Built{}, fmt.Errorf("parse go.mod: %w", err)
	}
	var built Built
	for _, r := range file.Require {
		if r.Mod.Path == s.Of {
			built.Version = r.Mod.Version
		}
	}
	if built.Version == "" {
		return Built{}, fmt.Errorf("it does not require %s", s.Of)
	}
	parts := []string{string(gomod), string(gosum), runtime.GOOS, runtime.GOARCH, s.Tags, s.Flags(built.Version)}
	for _, name := range s.names() {
		parts = append(parts, name, s.Packages[name])
	}
	built.Key = cache.Key(parts...)[:16]
	return built, nil
}

// build builds the programs into the directory dir.
func (s Set) build(ctx context.Context, built Built, dir string, progress io.Writer) error {
	fmt.Fprintf(progress, "building %s (%s %s) from Go modules into %s, %s, once per version\n",
		s.What, s.Of, built.Version, built.Dir, s.Takes)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range s.names() {
		began := time.Now()
		err := goShown(ctx, s.Module, io.Discard, progress, "build", "-trimpath", "-tags="+s.Tags, "-ldflags="+s.Flags(built.Version),
			"-o", filepath.Join(dir, name), s.Packages[name])
		if err != nil {
			return fmt.Errorf("build %s: %w", name, err)
		}
		fmt.Fprintf(progress, "built %s in %s\n", name, time.Since(began).Round(time.Second))
	}
	return nil
}
