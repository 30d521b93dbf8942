package fakegpu_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func TestExportsEveryFunctionOfTheHeader(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(files.header, "nvml.h"))
	if err != nil {
		t.Fatal(err)
	}
	header = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAll(header, nil)
	var want []string
	for _, m := range regexp.MustCompile(`nvmlReturn_t\s+DECLDIR\s+(nvml\w+)\s*\(|DECLDIR\s+char\s*\*\s*(nvml\w+)\s*\(`).FindAllSubmatch(header, -1) {
		want = append(want, string(m[1])+string(m[2]))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if len(want) < 400 {
		t.Fatalf("the header declares %d functions, want over 400: the expression is wrong", len(want))
	}

	symbols, err := output("nm", "-D", "--defined-only", files.library)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(symbols) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[1] == "T" {
			got = append(got, fields[2])
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("exported symbols (-want +got):\n%s", diff)
	}
}

func TestTheLibraryIsSmall(t *testing.T) {
	info, err := os.Stat(files.library)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= 200_000 {
		t.Errorf("it has %d bytes, want less than 200 kB", info.Size())
	}
}

// eachVariant runs a test with the C client and the library in all variants.
func eachVariant(t *testing.T, test func(t *testing.T, v variant)) {
	for _, name := range append(slices.Collect(maps.Keys(sanitizers)), "valgrind", "musl", "arm64") {
		t.Run(name, func(t *testing.T) {
			v, ok := files.variants[name]
			if !ok {
				t.Skip("there is no such compiler or checker here")
			}
			test(t, v)
		})
	}
}

// run runs the C client, which prints what is wrong.
func run(t *testing.T, v variant, dir, binding string, args ...string) string {
	t.Helper()
	line := slices.Concat(v.checker, []string{v.client, v.library, binding}, args)
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Env = append(os.Environ(), fakegpu.EnvState+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it may wait for a test that was killed
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("client %s: %v\n%s", args[:min(2, len(args))], err, out)
	}
	return string(out)
}

func TestClientInC(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		for _, binding := range []string{"now", "lazy"} {
			dir := t.TempDir()
			gpus := machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 3})
			run(t, v, dir, binding, "check", gpus[0].UUID, strconv.Itoa(len(gpus)))
		}
	})
}

// TestClientInCOnARichMachine has all that a healthy, idle machine has not.
func TestClientInCOnARichMachine(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		dir := t.TempDir()
		machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 8})
		check(t, fakegpu.Set(dir, "0", "utilization_gpu=70", "ecc_dram_uncorrected_volatile=5", "module=0"))
		check(t, fakegpu.SplitMIG(dir, "1", "1g.10gb", "3g.40gb"))
		processes := "process 101 compute 1024 30 a\nprocess 102 compute 2048 40 python3 train.py\nprocess 103 graphics 1 0 X\n"
		text := string(read(t, dir))
		first := strings.Index(text, "\ngpu ") + 1
		second := first + 1 + strings.Index(text[first+1:], "\ngpu ") + 1
		put(t, dir, []byte(text[:second]+processes+text[second:]))
		run(t, v, dir, "now", "rich")
	})
}

// TestEveryFunction calls all that the library exports, but for those that do
// not fit: before nvmlInit, with nothing but zeros, and for a lost GPU.
func TestEveryFunction(t *testing.T) {
	entries, err := os.ReadFile(filepath.Join("shim", "entry.gen.c"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range regexp.MustCompile(`DECLDIR (nvml\w+)\((nvmlDevice_t )?`).FindAllSubmatch(entries, -1) {
		name := string(m[1])
		if strings.HasPrefix(name, "nvmlInit") || name == "nvmlErrorString" {
			continue
		}
		if len(m[2]) > 0 {
			name += "@"
		}
		names = append(names, name)
	}
	if len(names) < 400 {
		t.Fatalf("%d functions, want over 400: the expression is wrong", len(names))
	}
	eachVariant(t, func(t *testing.T, v variant) {
		dir := t.TempDir()
		machine(t, dir, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(t, v, dir, "now", append([]string{"every"}, names...)...)
		}()
		until(t, "the client has its handles", func() bool {
			found, _ := filepath.Glob(filepath.Join(dir, "ready.*"))
			return len(found) > 0
		})
		check(t, fakegpu.Set(dir, "1", "lost=1"))
		<-done
	})
}

// TestClientInCWithThreads changes the machine while many threads ask.
func TestClientInCWithThreads(t *testing.T) {
	eachVariant(t, func(t *testing.T, v variant) {
		dir := t.TempDir()
		machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 4})
		done := make(chan struct{})
		go func() {
			defer close(done)
			run(t, v, dir, "now", "threads")
		}()
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1 + n%8})
			check(t, fakegpu.RaiseXid(dir, "0", 31))
		}
	})
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestClientInCOnDamage starts on every damaged state, in one process that the
// sanitizers watch.
func TestClientInCOnDamage(t *testing.T) {
	var dirs []string
	var want []bool
	for _, d := range damages(t) {
		dir := t.TempDir()
		put(t, dir, d.text)
		dirs, want = append(dirs, dir), append(want, d.surely)
	}
	eachVariant(t, func(t *testing.T, v variant) {
		codes := strings.Fields(run(t, v, "", "now", append([]string{"load"}, dirs...)...))
		if len(codes) != len(dirs) {
			t.Fatalf("the client reports %d codes, want %d", len(codes), len(dirs))
		}
		for i, code := range codes {
			if code != "999" && (want[i] || code != "0") {
				t.Errorf("damage %d: nvmlInit gives %s, want 999", i, code)
			}
		}
	})
}

// TestKeysAreThoseOfTheLibrary compares the table of keys with NUMBERS.
func TestKeysAreThoseOfTheLibrary(t *testing.T) {
	header, err := os.ReadFile(filepath.Join("shim", "state.h"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`\bN\((\w+), (?:\w+)\)`).FindAllSubmatch(header, -1) {
		want = append(want, string(m[1]))
	}
	if diff := cmp.Diff(want, fakegpu.Keys()); diff != "" {
		t.Errorf("keys (-state.h +Keys):\n%s", diff)
	}
}
