// Package shimtest builds the fake library for tests of what is linked to none.
package shimtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Build compiles the library into a directory, with the flags of fakegpu.mk.
func Build(dir string) (library string, err error) {
	_, self, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(self), "..", "..")
	makefile, err := os.ReadFile(filepath.Join(root, "fakegpu.mk"))
	if err != nil {
		return "", err
	}
	line := regexp.MustCompile(`(?m)^FAKEGPU_CFLAGS\s*:=(.*)$`).FindSubmatch(makefile)
	if line == nil {
		return "", fmt.Errorf("fakegpu.mk has no FAKEGPU_CFLAGS")
	}
	code, err := filepath.Glob(filepath.Join(root, "shim", "*.[ch]"))
	if err != nil {
		return "", err
	}
	for _, file := range code { // go test then takes no old result for new code
		if _, err := os.ReadFile(file); err != nil {
			return "", err
		}
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")
	list.Dir = root
	header, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find nvml.h: %w", err)
	}
	library = filepath.Join(dir, "libnvidia-ml.so.1")
	sources := slices.DeleteFunc(code, func(file string) bool { return filepath.Ext(file) != ".c" })
	args := slices.Concat([]string{"-shared", "-Wl,-soname,libnvidia-ml.so.1", "-o", library},
		strings.Fields(string(line[1])), []string{"-Wno-deprecated-declarations", "-isystem", filepath.Join(strings.TrimSpace(string(header)), "pkg", "nvml")},
		sources, []string{"-lpthread"})
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return library, nil
}
