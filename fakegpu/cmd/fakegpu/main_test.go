package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// called runs a command line.
func called(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = execute(args, &out, &errs)
	return code, out.String(), errs.String()
}

// succeed runs a command line that must succeed and say nothing on stderr.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := called(args...)
	if code != 0 || stderr != "" {
		t.Fatalf("fakegpu %q exits with %d and says %q, want 0 and nothing", args, code, stderr)
	}
	return stdout
}

func load(t *testing.T, dir string) fakegpu.Machine {
	t.Helper()
	m, err := fakegpu.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// library stands in for the C library, which no test here loads. Its directory
// has a name that a shell must not see without quotes.
func library(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "it's $HOME")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "libnvidia-ml.so.1")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestCreateAndList(t *testing.T) {
	dir := t.TempDir()
	if out := succeed(t, "create", dir, "--profile", "H200", "--count", "2", "--seed", "s"); out != "" {
		t.Errorf("create prints %q, want nothing", out)
	}
	m := load(t, dir)
	want := "0  " + m.GPUs[0].UUID + "  NVIDIA H200  143771 MiB\n1  " + m.GPUs[1].UUID + "  NVIDIA H200  143771 MiB\n"
	if diff := cmp.Diff(want, succeed(t, "list", dir)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	t.Setenv(fakegpu.EnvState, dir)
	if diff := cmp.Diff(want, succeed(t, "list")); diff != "" {
		t.Errorf("list with %s (-want +got):\n%s", fakegpu.EnvState, diff)
	}
	succeed(t, "create", dir, "--count", "0")
	if out := succeed(t, "list", dir); out != "" {
		t.Errorf("list of no GPUs prints %q, want nothing", out)
	}
}

func TestListSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--count", "2")
	m := load(t, dir)
	well := "0  " + m.GPUs[0].UUID + "  Tesla T4  15360 MiB"
	other := "1  " + m.GPUs[1].UUID + "  Tesla T4  15360 MiB\n"
	succeed(t, "inject", "init", dir, "9")
	succeed(t, "inject", "lost", dir, "0")
	succeed(t, "inject", "hang", dir, "0", "nvmlDeviceGetName", "2s")
	want := "machine  init=9\n" + well + "  lost=1, nvmlDeviceGetName answers 0 after 2000 ms\n" + other
	if diff := cmp.Diff(want, succeed(t, "list", dir)); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	succeed(t, "heal", dir, "machine")
	if diff := cmp.Diff(strings.TrimPrefix(want, "machine  init=9\n"), succeed(t, "list", dir)); diff != "" {
		t.Errorf("list of a healed machine (-want +got):\n%s", diff)
	}
	succeed(t, "heal", dir, "all")
	if diff := cmp.Diff(well+"\n"+other, succeed(t, "list", dir)); diff != "" {
		t.Errorf("list of healed GPUs (-want +got):\n%s", diff)
	}
}

const report = `printf '%s\n' "$FAKEGPU_STATE" "$STUDIOML_NVML_LIBRARY" "$LD_LIBRARY_PATH" "${PATH%%:*}"`

func TestEnvIsForAShell(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", "/other")
	dir, lib := t.TempDir(), library(t)
	exports := succeed(t, "--library", lib, "env", dir)
	got, err := exec.CommandContext(t.Context(), "sh", "-c", exports+report).CombinedOutput()
	if err != nil {
		t.Fatalf("sh: %v\n%s", err, got)
	}
	want := dir + "\n" + lib + "\n" + filepath.Dir(lib) + ":/other\n" + filepath.Dir(lib) + "\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestExec(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", "")
	out, lib := t.TempDir(), library(t)
	succeed(t, "--library", lib, "exec", "--profile", "H100-80GB", "--count", "3", "--", "sh", "-c", report+` >"$0/vars"; cp -r "$FAKEGPU_STATE" "$0/copy"`, out)
	vars, err := os.ReadFile(filepath.Join(out, "vars"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(vars), "\n")
	if diff := cmp.Diff([]string{lib, filepath.Dir(lib), filepath.Dir(lib), ""}, lines[1:]); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if n := len(load(t, filepath.Join(out, "copy")).GPUs); n != 3 {
		t.Errorf("the program had %d GPUs, want 3", n)
	}
	if _, err := os.Stat(lines[0]); !os.IsNotExist(err) {
		t.Errorf("stat of the state directory after the program: %v, want that it is gone", err)
	}
}

// TestExecFindsNvidiaSMI: the one beside the library, by its name alone.
func TestExecFindsNvidiaSMI(t *testing.T) {
	out, lib := filepath.Join(t.TempDir(), "out"), library(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(lib), nvidiaSMI), []byte("#!/bin/sh\necho \"$1\" >>\"$2\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	succeed(t, "--library", lib, "exec", "--", nvidiaSMI, "itself", out)
	succeed(t, "--library", lib, "exec", "--", "sh", "-c", `nvidia-smi "from a script" "$0"`, out)
	got, err := os.ReadFile(out)
	if diff := cmp.Diff("itself\nfrom a script\n", string(got)); diff != "" {
		t.Errorf("nvidia-smi was called (-want +got):\n%s%v", diff, err)
	}
}

// TestExecPassesSignalsOn: a program that is asked to end may take its time,
// and finds its GPUs until then.
func TestExecPassesSignalsOn(t *testing.T) {
	out, lib := t.TempDir(), library(t)
	const script = `trap 'ls "$FAKEGPU_STATE/state" >"$0/seen"; echo "$FAKEGPU_STATE" >"$0/dir"; exit 9' TERM
		touch "$0/ready"; while :; do sleep 0.01; done`
	go func() {
		for {
			if _, err := os.Stat(filepath.Join(out, "ready")); err == nil {
				_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	code, _, stderr := called("--library", lib, "exec", "--", "sh", "-c", script, out)
	if code != 9 || stderr != "" {
		t.Errorf("exits with %d and says %q, want the 9 of the program", code, stderr)
	}
	seen, err := os.ReadFile(filepath.Join(out, "seen"))
	if err != nil || !strings.HasSuffix(string(seen), "state\n") {
		t.Errorf("at its end the program saw %q, %v, want its GPUs", seen, err)
	}
	dir, _ := os.ReadFile(filepath.Join(out, "dir"))
	if _, err := os.Stat(strings.TrimSpace(string(dir))); !os.IsNotExist(err) {
		t.Errorf("stat of the state directory afterwards: %v, want that it is gone", err)
	}
}

func TestExecPassesTheExitCodeOn(t *testing.T) {
	lib := library(t)
	for _, test := range []struct {
		script string
		want   int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -KILL $$", 137}} {
		code, stdout, stderr := called("--library", lib, "exec", "--", "sh", "-c", test.script)
		if code != test.want || stdout+stderr != "" {
			t.Errorf("exec of %q exits with %d and says %q, want %d and nothing", test.script, code, stdout+stderr, test.want)
		}
	}
}

func TestBadInputGivesOneLine(t *testing.T) {
	dir, lib := t.TempDir(), library(t)
	full, plain, large := t.TempDir(), t.TempDir(), t.TempDir()
	succeed(t, "create", full, "--count", "2")
	succeed(t, "create", plain, "--profile", "RTX-4090")
	succeed(t, "create", large, "--profile", "H100-80GB")
	before := load(t, full)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "expected one of"},
		{"unknown command", []string{"destroy"}, "destroy"},
		{"unknown flag", []string{"create", dir, "--model", "T4"}, "--model"},
		{"unknown profile", []string{"create", dir, "--profile", "Voodoo2"}, "A10, A100-40GB, A100-80GB"},
		{"count too large", []string{"create", dir, "--count", "65"}, "0 to 64"},
		{"count no number", []string{"create", dir, "--count", "many"}, "many"},
		{"init error too large", []string{"create", dir, "--init-error", "1000"}, "0 to 999"},
		{"no directory", []string{"create"}, "<dir>"},
		{"set without GPUs", []string{"set", filepath.Join(dir, "no"), "0", "power=1"}, "fakegpu create"},
		{"set of no GPU", []string{"set", full, "7", "power=1"}, `no GPU "7"; must be an index below 2`},
		{"set of two GPUs", []string{"set", full, "GPU-", "power=1"}, "could be one of 2"},
		{"set of an unknown key", []string{"set", full, "0", "colour=1"}, `"colour" is no key of a GPU; the keys are brand, `},
		{"set of a value too large", []string{"set", full, "0", "fan_speed=101"}, "fan_speed is 101, must be 0 to 100"},
		{"set of no number", []string{"set", full, "0", "power=much"}, `power is "much"`},
		{"set of no value", []string{"set", full, "0", "power"}, "KEY=VALUE"},
		{"set of too much memory", []string{"set", full, "0", "memory_used=99Gi"}, "more than the memory"},
		{"set nothing", []string{"set", full, "0"}, "nothing is to be set"},
		{"set an octal number that is none", []string{"set", full, "0", "power=0o17"}, `power is "0o17"`},
		{"set a process without memory", []string{"set", full, "0", "--process", "12"}, `process is "12", must be PID=BYTES`},
		{"set a process of no type", []string{"set", full, "0", "--process", "12=1,type=game"}, `type of process is "game"`},
		{"set a process of an unknown key", []string{"set", full, "0", "--process", "12=1,user=me"}, `"user" is no key of a process`},
		{"set a process of a wrong share", []string{"set", full, "0", "--process", "12=1,sm=101"}, "sm is 101, must be 0 to 100"},
		{"set a process of no share", []string{"set", full, "0", "--process", "12=1,sm=half"}, `sm is "half"`},
		{"set a process twice", []string{"set", full, "0", "--process", "12=1", "--process", "12=2"}, "process 12 is there twice"},
		{"set a process and a wrong value", []string{"set", full, "0", "power=x", "--process", "12=1"}, `power is "x"`},
		{"set processes and none", []string{"set", full, "0", "--process", "12=1", "--no-processes"}, "together"},
		{"models without a count", []string{"create", dir, "--gpus", "T4"}, `GPUs are "T4", must be PROFILE=COUNT`},
		{"models and a profile", []string{"create", dir, "--gpus", "T4=1", "--profile", "T4"}, "together"},
		{"models and a count", []string{"create", dir, "--gpus", "T4=1", "--count", "2"}, "together"},
		{"too many of two models", []string{"create", dir, "--gpus", "T4=60", "--gpus", "L4=5"}, "count is 5, must be 0 to 4"},
		{"inject no ECC error", []string{"inject", "ecc", full, "0", "--count", "0"}, "count of errors is 0"},
		{"inject into a function that there is not", []string{"inject", "error", full, "0", "nvmlDeviceGetNmae", "3"}, "did you mean nvmlDeviceGetName?"},
		{"inject nothing", []string{"inject"}, "expected one of"},
		{"inject no Xid", []string{"inject", "xid", full, "0", "many"}, "many"},
		{"inject into no function", []string{"inject", "error", full, "0", "GetName", "3"}, `function is "GetName"`},
		{"inject no code", []string{"inject", "error", full, "0", "nvmlDeviceGetName", "WRONG"}, `code is "WRONG"`},
		{"inject a long hang", []string{"inject", "hang", full, "0", "*", "2h"}, "duration is 2h0m0s; must be 0s to 1h"},
		{"inject a negative hang", []string{"inject", "hang", full, "0", "*", "--", "-2s"}, "0s to 1h"},
		{"inject ECC where there is none", []string{"inject", "ecc", plain, "0"}, "has no ECC memory"},
		{"add too many", []string{"add", full, "--count", "63"}, "0 to 62"},
		{"divide what cannot be", []string{"mig", full, "0", "1g.5gb"}, "cannot be divided"},
		{"divide into more than there is", []string{"mig", large, "0", "4g.40gb", "4g.40gb"}, "no room"},
		{"divide into what is no profile", []string{"mig", large, "0", "half"}, `"half"`},
		{"list without GPUs", []string{"list", dir}, "fakegpu create"},
		{"no library", []string{"--library", dir + "/no.so", "env", dir}, "build it with make"},
		{"exec without a program", []string{"--library", lib, "exec", "--"}, "after --"},
		{"exec of a missing program", []string{"--library", lib, "exec", "--", "no-such-program"}, "no-such-program"},
		{"exec with a wrong profile", []string{"--library", lib, "exec", "--profile", "x", "--", "true"}, "must be A10, "},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stdout, stderr := called(test.args...)
			if code != 1 || stdout != "" {
				t.Errorf("exits with %d and prints %q, want 1 and nothing", code, stdout)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "fakegpu: ") || !strings.Contains(stderr, test.want) {
				t.Errorf("says %q, want one line with %q", stderr, test.want)
			}
		})
	}
	if diff := cmp.Diff(before, load(t, full)); diff != "" {
		t.Errorf("bad input has changed the machine (-before +after):\n%s", diff)
	}
}

// TestVerbs changes a machine in one way after the other.
func TestVerbs(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--profile", "H100-80GB", "--count", "2", "--seed", "v")
	number := func(gpu int, key string) uint64 { return load(t, dir).GPUs[gpu].Numbers[key] }
	want := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	uuids := [2]string{load(t, dir).GPUs[0].UUID, load(t, dir).GPUs[1].UUID}

	succeed(t, "set", dir, "1", "temperature=85", "memory_used=10Gi", "name=Mine", "utilization_gpu=0x32")
	want("temperature", number(1, "temperature"), uint64(85))
	want("memory_used", number(1, "memory_used"), uint64(10<<30))
	want("utilization_gpu", number(1, "utilization_gpu"), uint64(50))
	want("name", load(t, dir).GPUs[1].Name, "Mine")
	succeed(t, "set", dir, "all", "power=1")
	want("power of all", number(0, "power")+number(1, "power"), uint64(2))

	succeed(t, "set", dir, "0", "--process", "1234=2Gi", "--process", "5=1,sm=30,type=graphics,name=X, 1=2", "temperature=7")
	want("processes", load(t, dir).GPUs[0].Processes, []fakegpu.Process{
		{PID: 1234, Type: "compute", Memory: 2 << 30, Name: "process-1234"}, {PID: 5, Type: "graphics", Memory: 1, SM: 30, Name: "X, 1=2"}})
	want("temperature", number(0, "temperature"), uint64(7))
	succeed(t, "set", dir, "0", "temperature=8")
	want("processes after another change", len(load(t, dir).GPUs[0].Processes), 2)
	succeed(t, "set", dir, "0", "--no-processes")
	want("processes", len(load(t, dir).GPUs[0].Processes), 0)

	succeed(t, "inject", "xid", dir, uuids[0][:12], "31")
	want("recovery after an application's Xid", number(0, "recovery_action"), uint64(0))
	succeed(t, "inject", "xid", dir, "0", "79")
	want("recovery after Xid 79", number(0, "recovery_action"), uint64(1))
	succeed(t, "inject", "ecc", dir, "1", "--count", "3")
	succeed(t, "inject", "ecc", dir, "1", "--uncorrected")
	want("corrected", number(1, "ecc_dram_corrected_volatile"), uint64(3))
	want("uncorrected", number(1, "ecc_dram_uncorrected_aggregate"), uint64(1))
	succeed(t, "inject", "remap-pending", dir, "1")
	succeed(t, "inject", "remap-failed", dir, "1")
	succeed(t, "inject", "lost", dir, "1")
	want("signs", number(1, "lost")+number(1, "remap_pending")+number(1, "remap_failed"), uint64(3))
	succeed(t, "inject", "error", dir, "1", "nvmlDeviceGetName", "GPU_IS_LOST")
	succeed(t, "inject", "hang", dir, "1", "*", "5s")
	succeed(t, "inject", "error", dir, "machine", "nvmlDeviceGetCount_v2", "999")
	succeed(t, "inject", "init", dir, "DRIVER_NOT_LOADED")
	m := load(t, dir)
	want("faults of a GPU", m.GPUs[1].Faults, []fakegpu.Fault{{Function: "nvmlDeviceGetName", Code: 15}, {Function: "*", HangMS: 5000}})
	want("faults of the machine", m.Faults, []fakegpu.Fault{{Function: "nvmlDeviceGetCount_v2", Code: 999}})
	want("init", m.Init, uint64(9))
	journal, err := os.ReadFile(filepath.Join(dir, "events"))
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for line := range strings.Lines(string(journal)) {
		if words := strings.Fields(line); len(words) == 6 {
			events = append(events, strings.Join(words[:3], " "))
		}
	}
	want("journal", events, []string{
		uuids[0] + " 8 31", uuids[0] + " 8 79", uuids[0] + " 32768 1", uuids[1] + " 1 0", uuids[1] + " 2 0",
		uuids[1] + " 1024 0", uuids[1] + " 2048 0", uuids[1] + " 16384 0", // what follows from remapped rows, and from a GPU that is lost
	})

	succeed(t, "heal", dir, "1")
	m = load(t, dir)
	want("faults of a healed GPU", len(m.GPUs[1].Faults), 0)
	want("signs of a healed GPU", number(1, "lost")+number(1, "remap_pending")+number(1, "ecc_dram_uncorrected_volatile"), uint64(0))
	want("what a reset does not clear", number(1, "ecc_dram_uncorrected_aggregate"), uint64(1))
	want("another GPU", number(0, "recovery_action"), uint64(1))
	succeed(t, "heal", dir, "all")
	m = load(t, dir)
	want("the machine", []any{len(m.Faults), m.Init, number(0, "recovery_action")}, []any{0, uint64(0), uint64(0)})

	succeed(t, "add", dir, "--profile", "T4", "--count", "2", "--seed", "v")
	m = load(t, dir)
	want("models", []string{m.GPUs[0].Name, m.GPUs[3].Name}, []string{"NVIDIA H100 80GB HBM3", "Tesla T4"})
	succeed(t, "remove", dir, uuids[0])
	succeed(t, "add", dir, "--seed", "v")
	m = load(t, dir)
	want("a GPU that comes back", m.GPUs[3].UUID, uuids[0])
	want("its bus", m.GPUs[3].Numbers["bus"], uint64(1))

	succeed(t, "mig", dir, "0", "1g.10gb", "3g.40gb")
	m = load(t, dir)
	want("MIG devices", len(m.GPUs[0].MIGs), 2)
	want("its share", m.GPUs[0].MIGs[0].SMs, uint64(60))
	if out := succeed(t, "list", dir); !strings.Contains(out, m.GPUs[0].MIGs[0].UUID+"  MIG 3g.40gb  40448 MiB") {
		t.Errorf("list has no MIG devices:\n%s", out)
	}
	succeed(t, "mig", dir, "0")
	want("MIG devices", len(load(t, dir).GPUs[0].MIGs), 0)
}

func TestSeveralModels(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir, "--gpus", "H100-80GB=1", "--gpus", "T4=2")
	succeed(t, "add", dir, "--gpus", "L4=1")
	var names []string
	for _, g := range load(t, dir).GPUs {
		names = append(names, g.Name)
	}
	if diff := cmp.Diff([]string{"NVIDIA H100 80GB HBM3", "Tesla T4", "Tesla T4", "NVIDIA L4"}, names); diff != "" {
		t.Errorf("models (-want +got):\n%s", diff)
	}
	if out := succeed(t, "--library", library(t), "exec", "--gpus", "T4=1", "--gpus", "L4=1", "--", "sh", "-c", `grep -c ^gpu "$FAKEGPU_STATE/state" >"$0/count"`, dir); out != "" {
		t.Errorf("exec prints %q", out)
	}
	if count, err := os.ReadFile(filepath.Join(dir, "count")); string(count) != "2\n" {
		t.Errorf("the program had %q GPUs, %v, want 2", count, err)
	}
}

func TestHelp(t *testing.T) {
	out := succeed(t, "create", "--help")
	for _, want := range append(fakegpu.Profiles(), "--count", "--gpus", "--seed", "--init-error") {
		if !strings.Contains(out, want) {
			t.Errorf("help has no %q:\n%s", want, out)
		}
	}
}
