package fakegpu_test

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// built are the files that TestMain makes from the C code.
type built struct {
	library, client string
	header          string // directory of nvml.h
	variants        map[string]variant
	libraries       map[string]string // without sanitizers, by the processor
}

// variant is the library with its client, as it is, with sanitizers, or run by
// a checker.
type variant struct {
	library, client string
	checker         []string
}

var files built

// envBuilt names the library to the workers of go test -fuzz, each of which runs
// TestMain anew.
const envBuilt = "FAKEGPU_TEST_LIBRARY"

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if files.library = os.Getenv(envBuilt); files.library != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "fakegpu-test-*")
		if err == nil {
			defer os.RemoveAll(dir)
			files, err = build(dir)
		}
		if err == nil {
			err = os.Setenv(envBuilt, files.library)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "build the fake library:", err)
			return 1
		}
		return m.Run()
	}())
}

// sanitizers are the ways to compile C code that finds its own mistakes.
var sanitizers = map[string][]string{
	"plain":   nil,
	"address": {"-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"},
	"thread":  {"-g", "-fsanitize=thread"},
}

// build compiles the library and the client in all variants, all at the same
// time.
func build(dir string) (built, error) {
	header, err := output("go", "list", "-m", "-f", "{{.Dir}}", "github.com/NVIDIA/go-nvml")
	if err != nil {
		return built{}, err
	}
	b := built{header: filepath.Join(strings.TrimSpace(header), "pkg", "nvml"), variants: make(map[string]variant)}
	flags, sources, parts, err := recipe()
	if err != nil {
		return b, err
	}
	flags = append(flags, "-Wno-deprecated-declarations", "-isystem", b.header)
	library := append([]string{"-shared", "-Wl,-soname,libnvidia-ml.so.1", "-Wl,--as-needed"}, sources...)
	client := slices.Concat([]string{"-D_GNU_SOURCE"}, parts, []string{"-ldl", "-rdynamic"})

	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := make(map[string]error)
	for name, flagsOfIt := range sanitizers {
		v := variant{library: filepath.Join(dir, name, "libnvidia-ml.so.1"), client: filepath.Join(dir, name, "client")}
		b.variants[name] = v
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			return b, err
		}
		for to, what := range map[string][]string{v.library: library, v.client: client} {
			wg.Go(func() {
				_, err := output("gcc", slices.Concat([]string{"-o", to}, flags, flagsOfIt, what, []string{"-lpthread"})...)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed[name] = err
				}
			})
		}
	}
	wg.Wait()
	for name, err := range failed { // a gcc may come without sanitizers
		if able(dir, sanitizers[name]) {
			return b, err
		}
		delete(b.variants, name)
	}
	plain := b.variants["plain"]
	b.library, b.client = plain.library, plain.client
	b.libraries = map[string]string{runtime.GOARCH: plain.library}
	if err := b.elsewhere(dir, flags, library, client); err != nil {
		return b, err
	}
	if valgrind, err := exec.LookPath("valgrind"); err == nil {
		plain.checker = []string{valgrind, "--quiet", "--error-exitcode=9", "--leak-check=full"}
		b.variants["valgrind"] = plain
	}
	return b, nil
}

// elsewhere adds what is not for this machine's libc or processor: the same
// library with a client of musl, and both for ARM, which an emulator runs.
func (b *built) elsewhere(dir string, flags, library, client []string) error {
	if musl, err := exec.LookPath("musl-gcc"); err == nil {
		v := variant{library: b.library, client: filepath.Join(dir, "client-musl")}
		if _, err := output(musl, slices.Concat([]string{"-o", v.client}, flags, client)...); err != nil {
			return err
		}
		b.variants["musl"] = v
	}
	const cross = "aarch64-linux-gnu"
	gcc, err := exec.LookPath(cross + "-gcc")
	if err != nil || runtime.GOARCH == "arm64" {
		return nil
	}
	v := variant{library: filepath.Join(dir, "arm64", "libnvidia-ml.so.1"), client: filepath.Join(dir, "arm64", "client")}
	if err := os.Mkdir(filepath.Dir(v.library), 0o755); err != nil {
		return err
	}
	for to, what := range map[string][]string{v.library: library, v.client: client} {
		if _, err := output(gcc, slices.Concat([]string{"-o", to}, flags, what, []string{"-lpthread"})...); err != nil {
			return err
		}
	}
	b.libraries["arm64"] = v.library
	if emulator, err := exec.LookPath("qemu-aarch64"); err == nil {
		v.checker = []string{emulator, "-L", filepath.Join("/usr", cross)}
		b.variants["arm64"] = v
	}
	return nil
}

// able reports whether gcc takes the flags at all.
func able(dir string, flags []string) bool {
	nothing := filepath.Join(dir, "nothing.c")
	if err := os.WriteFile(nothing, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		return true
	}
	_, err := output("gcc", append([]string{"-o", filepath.Join(dir, "nothing"), nothing}, flags...)...)
	return err == nil
}

// code makes the C code a part of the test program: go test then takes no old
// result for new code.
//
//go:embed fakegpu.mk shim/*.c shim/*.h testdata/client/*.c testdata/client/*.h
var code embed.FS

// recipe returns the compiler flags of fakegpu.mk, and the C files of the library
// and of the client.
func recipe() (flags, library, client []string, err error) {
	makefile, err := code.ReadFile("fakegpu.mk")
	if err != nil {
		return nil, nil, nil, err
	}
	line := regexp.MustCompile(`(?m)^FAKEGPU_CFLAGS\s*:=(.*)$`).FindSubmatch(makefile)
	if line == nil {
		return nil, nil, nil, fmt.Errorf("fakegpu.mk has no FAKEGPU_CFLAGS")
	}
	library, err = fs.Glob(code, "shim/*.c")
	if err == nil {
		client, err = fs.Glob(code, "testdata/client/*.c")
	}
	return strings.Fields(string(line[1])), library, client, err
}

// output runs a program and returns what it prints.
func output(program string, args ...string) (string, error) {
	return outputWith(nil, program, args...)
}

func outputWith(environment []string, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = environment
	out, err := cmd.CombinedOutput()
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
