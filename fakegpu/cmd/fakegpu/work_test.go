package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func TestVerbsOfTheMachineAndOfWork(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	succeed(t, "create", dir, "--profile", "H100-80GB", "--count", "2")
	succeed(t, "machine", dir, "driver=595.91.07", "cuda=13.2")
	m := load(t, dir)
	if diff := cmp.Diff([]any{"595.91.07", "13.595.91.07", uint64(13020)}, []any{m.Driver, m.NVML, m.CUDA}); diff != "" {
		t.Errorf("versions (-want +got):\n%s", diff)
	}
	succeed(t, "add", dir, "--profile", "T4", "--count", "1", "--seed", "another")
	for args, want := range map[string]string{
		"machine DIR kernel=6": `value is "kernel=6", must be driver=VERSION`, "machine DIR cuda=new": `cuda is "new", must be a version, as 13.0`,
		"machine DIR driver": "must be driver=VERSION", "load DIR 0 most": `load is "most", must be a percentage, as 80%`,
		"load DIR 0 0%": "load is 0 %, must be 1 to 100; use idle for none", "load DIR 0 101%": "must be 1 to 100",
		"inject event DIR 0 birthday":     `type of event is "birthday", must be one of single-bit-ecc, double-bit-ecc`,
		"inject event DIR 2 power-source": "Tesla T4 raises no event power-source; its events are single-bit-ecc",
	} {
		words := strings.Fields(args)
		words[slices.Index(words, "DIR")] = dir
		var out, errors bytes.Buffer
		if code := execute(words, &out, &errors); code == 0 || !strings.Contains(errors.String(), want) || strings.Count(errors.String(), "\n") != 1 {
			t.Errorf("%s: code %d, %q, want one line with %q", args, code, errors.String(), want)
		}
	}
	succeed(t, "load", dir, "0", "80%")
	if g := load(t, dir).GPUs[0]; g.Numbers["utilization_gpu"] != 80 || g.Numbers["power"] < 500_000 {
		t.Errorf("at 80 %% a GPU has %v", g.Numbers)
	}
	succeed(t, "idle", dir, "0")
	if g := load(t, dir).GPUs[0]; g.Numbers["utilization_gpu"] != 0 || g.Numbers["power"] != 68_920 {
		t.Errorf("idle a GPU has %v", g.Numbers)
	}
	if out := succeed(t, "inject", "xid", dir, "1", "79"); !strings.Contains(out, "still answers; fakegpu inject lost "+dir+" 1") {
		t.Errorf("inject xid 79 prints %q", out)
	}
	succeed(t, "inject", "event", dir, "1", "clock", "900")
	if journal, err := os.ReadFile(filepath.Join(dir, "events")); err != nil || !strings.Contains(string(journal), " 16 900 ") {
		t.Errorf("the journal is %q, %v", journal, err)
	}
}

// TestAWriterSaysThatItWaits has another program that holds the lock.
func TestAWriterSaysThatItWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	succeed(t, "create", dir)
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	said, done := make(chan string), make(chan int)
	go func() { done <- execute([]string{"set", dir, "0", "temperature=50"}, io.Discard, lines(said)) }()
	select {
	case line := <-said:
		if line != "fakegpu: another program is changing "+dir+"; waiting for it\n" {
			t.Errorf("the writer that waits says %q", line)
		}
	case <-time.After(20 * time.Second):
		t.Error("the writer that waits says nothing")
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if code := <-done; code != 0 || load(t, dir).GPUs[0].Numbers["temperature"] != 50 {
		t.Errorf("then it ends with %d", code)
	}
}

// lines is a writer that hands each write to a reader.
type lines chan string

func (l lines) Write(text []byte) (int, error) { l <- string(text); return len(text), nil }

// TestWhatCannotBePrintedIsAnError: a script must not go on with half of it.
func TestWhatCannotBePrintedIsAnError(t *testing.T) {
	dir := t.TempDir()
	succeed(t, "create", dir)
	t.Setenv(fakegpu.EnvState, dir)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"list", dir}, {"env", dir}, {"smi", "-L"}, {"capture"}, {"install", t.TempDir()}} {
		var said bytes.Buffer
		if code := execute(append([]string{"--library", shim}, args...), full, &said); code != 1 || !strings.Contains(said.String(), "no space left on device") {
			t.Errorf("%q on a full disk ends with %d and says %q", args, code, &said)
		}
	}
}
