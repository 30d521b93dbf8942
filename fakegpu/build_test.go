package fakegpu_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// built are the files that TestMain makes from the C code.
type built struct {
	library, client                   string
	sanitizedLibrary, sanitizedClient string // empty where this machine has no sanitizers
	header                            string // directory of nvml.h
}

var files built

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fakegpu-test-*")
		if err == nil {
			defer os.RemoveAll(dir)
			files, err = build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the fake library:", err)
			return 1
		}
		return m.Run()
	}())
}

// build compiles the library and the client, with and without sanitizers, all
// at the same time.
func build(dir string) (built, error) {
	header, err := output("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")
	if err != nil {
		return built{}, err
	}
	b := built{
		library: filepath.Join(dir, "libnvidia-ml.so.1"), client: filepath.Join(dir, "client"),
		sanitizedLibrary: filepath.Join(dir, "sanitized", "libnvidia-ml.so.1"), sanitizedClient: filepath.Join(dir, "sanitized", "client"),
		header: filepath.Join(strings.TrimSpace(header), "pkg", "nvml"),
	}
	flags, sources, err := recipe()
	if err != nil {
		return b, err
	}
	if err := os.Mkdir(filepath.Join(dir, "sanitized"), 0o755); err != nil {
		return b, err
	}
	flags = append(flags, "-Wno-deprecated-declarations", "-isystem", b.header)
	library := append([]string{"-shared", "-Wl,-soname,libnvidia-ml.so.1", "-Wl,--as-needed"}, sources...)
	client := []string{"-D_GNU_SOURCE", filepath.Join("testdata", "client.c"), "-ldl"}
	sanitizers := []string{"-fsanitize=address,undefined", "-fno-sanitize-recover=all"}

	var wg sync.WaitGroup
	errs := make([]error, 4)
	compile := func(i int, to string, more ...[]string) {
		wg.Go(func() {
			args := append([]string{"-o", to}, flags...)
			for _, m := range more {
				args = append(args, m...)
			}
			_, errs[i] = output("gcc", append(args, "-lpthread")...)
		})
	}
	compile(0, b.library, library)
	compile(1, b.client, client)
	compile(2, b.sanitizedLibrary, sanitizers, library)
	compile(3, b.sanitizedClient, sanitizers, client)
	wg.Wait()
	for _, err := range errs[:2] {
		if err != nil {
			return b, err
		}
	}
	if errs[2] != nil || errs[3] != nil {
		b.sanitizedLibrary, b.sanitizedClient = "", ""
	}
	return b, nil
}

// recipe returns the compiler flags of fakegpu.mk and the C files. It opens
// every file that gcc will read: go test then knows what its result depends on.
func recipe() (flags, sources []string, err error) {
	makefile, err := os.ReadFile("fakegpu.mk")
	if err != nil {
		return nil, nil, err
	}
	line := regexp.MustCompile(`(?m)^FAKEGPU_CFLAGS\s*:=(.*)$`).FindSubmatch(makefile)
	if line == nil {
		return nil, nil, fmt.Errorf("fakegpu.mk has no FAKEGPU_CFLAGS")
	}
	read, err := filepath.Glob(filepath.Join("shim", "*.[ch]"))
	if err != nil {
		return nil, nil, err
	}
	for _, name := range read {
		if filepath.Ext(name) == ".c" {
			sources = append(sources, name)
		}
	}
	for _, name := range append(read, filepath.Join("testdata", "client.c")) {
		if _, err := os.ReadFile(name); err != nil {
			return nil, nil, err
		}
	}
	return strings.Fields(string(line[1])), sources, nil
}

// output runs a program and returns what it prints.
func output(program string, args ...string) (string, error) {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", program, err, out)
	}
	return string(out), nil
}

// machine makes a state directory and fails the test if it cannot.
func machine(t *testing.T, dir string, spec fakegpu.Spec) []fakegpu.GPU {
	t.Helper()
	gpus, err := fakegpu.Create(dir, spec)
	if err != nil {
		t.Fatal(err)
	}
	return gpus
}
