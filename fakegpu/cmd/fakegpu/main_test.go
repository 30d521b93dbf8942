package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
	gpus, err := fakegpu.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := "0  " + gpus[0].UUID + "  NVIDIA H200  143771 MiB\n1  " + gpus[1].UUID + "  NVIDIA H200  143771 MiB\n"
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

const report = `printf '%s\n' "$FAKEGPU_STATE" "$STUDIOML_NVML_LIBRARY" "$LD_LIBRARY_PATH"`

func TestEnvIsForAShell(t *testing.T) {
	t.Setenv("LD_LIBRARY_PATH", "/other")
	dir, lib := t.TempDir(), library(t)
	exports := succeed(t, "--library", lib, "env", dir)
	got, err := exec.CommandContext(t.Context(), "sh", "-c", exports+report).CombinedOutput()
	if err != nil {
		t.Fatalf("sh: %v\n%s", err, got)
	}
	want := dir + "\n" + lib + "\n" + filepath.Dir(lib) + ":/other\n"
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
	if diff := cmp.Diff([]string{lib, filepath.Dir(lib), ""}, lines[1:]); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	if gpus, err := fakegpu.List(filepath.Join(out, "copy")); err != nil || len(gpus) != 3 {
		t.Errorf("the program had GPUs %v, %v, want 3", gpus, err)
	}
	if _, err := os.Stat(lines[0]); !os.IsNotExist(err) {
		t.Errorf("stat of the state directory after the program: %v, want that it is gone", err)
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
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing", nil, "expected one of"},
		{"unknown command", []string{"destroy"}, "destroy"},
		{"unknown flag", []string{"create", dir, "--model", "T4"}, "--model"},
		{"unknown profile", []string{"create", dir, "--profile", "Voodoo2"}, "A100-40GB, A100-80GB, H100-80GB"},
		{"count too large", []string{"create", dir, "--count", "65"}, "0 to 64"},
		{"count no number", []string{"create", dir, "--count", "many"}, "many"},
		{"init error too large", []string{"create", dir, "--init-error", "1000"}, "0 to 999"},
		{"no directory", []string{"create"}, "<dir>"},
		{"list without GPUs", []string{"list", dir}, "fakegpu create"},
		{"no library", []string{"--library", dir + "/no.so", "env", dir}, "build it with make"},
		{"exec without a program", []string{"--library", lib, "exec", "--"}, "after --"},
		{"exec of a missing program", []string{"--library", lib, "exec", "--", "no-such-program"}, "no-such-program"},
		{"exec with a wrong profile", []string{"--library", lib, "exec", "--profile", "x", "--", "true"}, "allowed are"},
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
}

func TestHelp(t *testing.T) {
	out := succeed(t, "create", "--help")
	for _, want := range append(fakegpu.Profiles(), "--count", "--seed", "--init-error") {
		if !strings.Contains(out, want) {
			t.Errorf("help has no %q:\n%s", want, out)
		}
	}
}
