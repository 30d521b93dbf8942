// Package assets finds or builds the programs of the embedded control plane:
// etcd, kube-apiserver and kubectl. They come from Go modules, so that no
// registry and no download site is needed, and are built once per version.
package assets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/mod/modfile"
)

// EnvAssets names a directory with ready-made binaries. It is the variable
// that controller-runtime's setup-envtest prints.
const EnvAssets = "KUBEBUILDER_ASSETS"

// required are the programs that the control plane consists of. Kubectl is
// built with them and is not missed when it is absent.
var required = []string{"etcd", "kube-apiserver"}

// Ensure returns a directory that holds etcd and kube-apiserver: the one that
// KUBEBUILDER_ASSETS names, or one in the user's cache directory, which it
// builds first if need be. It tells on progress what it does.
func Ensure(ctx context.Context, progress io.Writer) (string, error) {
	dir, module, err := locate(ctx)
	if err != nil {
		return "", err
	}
	if module == nil || complete(dir) == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("create cache directory: %w", err)
	}
	release, err := lock(ctx, dir+".lock", func() {
		fmt.Fprintf(progress, "another process builds the control plane; waiting for it (lock %s)\n", dir+".lock")
	})
	if err != nil {
		return "", fmt.Errorf("lock control plane cache: %w", err)
	}
	defer release()
	if complete(dir) == nil { // built while we waited
		return dir, nil
	}
	if err := build(ctx, module, dir, progress); err != nil {
		return "", fmt.Errorf("build control plane: %w", err)
	}
	return dir, nil
}

// Path returns the directory that Ensure would return, without building it.
func Path(ctx context.Context) (string, error) {
	dir, _, err := locate(ctx)
	return dir, err
}

// locate returns the directory of the binaries and the module that they are
// built from, nil if they are given.
func locate(ctx context.Context) (string, *module, error) {
	if dir := os.Getenv(EnvAssets); dir != "" {
		if err := complete(dir); err != nil {
			return "", nil, fmt.Errorf("%s is %q: %w; unset it to have the programs built", EnvAssets, dir, err)
		}
		return dir, nil, nil
	}
	m, err := findModule(ctx)
	if err != nil {
		return "", nil, fmt.Errorf("find module e2e/controlplane (or set %s): %w", EnvAssets, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", nil, fmt.Errorf("find cache directory (set XDG_CACHE_HOME): %w", err)
	}
	return filepath.Join(cache, "studio-go-runner", "controlplane-"+m.key), m, nil
}

// complete says what is missing in dir.
func complete(dir string) error {
	var problems []string
	for _, name := range required {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			problems = append(problems, "it has no "+name)
		case err != nil:
			problems = append(problems, err.Error())
		case info.IsDir() || info.Mode()&0o111 == 0:
			problems = append(problems, "its "+name+" is no program")
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, ", "))
	}
	return nil
}

// module is the nested module that pins the versions.
type module struct {
	dir        string
	key        string // changes whenever other binaries would come out
	kubernetes string // version, as v1.37.2
}

// findModule looks for e2e/controlplane in the main module of the working
// directory: a nested module cannot be embedded into a package of this one.
func findModule(ctx context.Context) (*module, error) {
	out, err := run(ctx, "", "env", "GOMOD")
	if err != nil {
		return nil, err
	}
	gomod := strings.TrimSpace(out)
	if gomod == "" || gomod == os.DevNull {
		return nil, errors.New("the working directory is in no Go module")
	}
	return readModule(filepath.Join(filepath.Dir(gomod), "e2e", "controlplane"))
}

// readModule reads versions and key from the module's own files.
func readModule(dir string) (*module, error) {
	gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return nil, err
	}
	gosum, err := os.ReadFile(filepath.Join(dir, "go.sum"))
	if err != nil {
		return nil, err
	}
	file, err := modfile.ParseLax(filepath.Join(dir, "go.mod"), gomod, nil)
	if err != nil {
		return nil, fmt.Errorf("parse go.mod: %w", err)
	}
	m := &module{dir: dir}
	for _, r := range file.Require {
		if r.Mod.Path == "k8s.io/kubernetes" {
			m.kubernetes = r.Mod.Version
		}
	}
	if m.kubernetes == "" {
		return nil, fmt.Errorf("%s does not require k8s.io/kubernetes", filepath.Join(dir, "go.mod"))
	}
	hash := sha256.New()
	for _, part := range [][]byte{gomod, gosum, []byte(runtime.GOOS), []byte(runtime.GOARCH)} {
		fmt.Fprintf(hash, "%d\n%s\n", len(part), part)
	}
	m.key = hex.EncodeToString(hash.Sum(nil))[:16]
	return m, nil
}

// versionFlags are the linker flags that make the programs report the version
// of the module; without them clients see v0.0.0.
func (m *module) versionFlags() string {
	const pkg = "k8s.io/component-base/version"
	major, rest, _ := strings.Cut(strings.TrimPrefix(m.kubernetes, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	return fmt.Sprintf("-s -w -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s",
		pkg, m.kubernetes, pkg, major, pkg, minor)
}
