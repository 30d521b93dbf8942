package fakegpu_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// soon wants something to end, whatever lies in the directory.
func soon(t *testing.T, what string, do func() error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- do() }()
	select {
	case err := <-ended:
		check(t, err)
	case <-time.After(20 * time.Second):
		t.Fatalf("%s does not end", what)
	}
}

// TestWritersFollowNoLink: the directory may be another user's, who would let
// root write where he may not.
func TestWritersFollowNoLink(t *testing.T) {
	for _, file := range []string{".state", ".lock", "events"} {
		for _, there := range []bool{true, false} {
			lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
			device, _ := lib.DeviceGetHandleByIndex(0)
			victim := filepath.Join(t.TempDir(), "victim")
			if there {
				check(t, os.WriteFile(victim, []byte("precious"), 0o600))
			}
			plant := func() {
				check(t, os.RemoveAll(filepath.Join(dir, file)))
				check(t, os.Symlink(victim, filepath.Join(dir, file)))
			}
			plant()
			err := fakegpu.RaiseXid(dir, "0", 48)
			if done := stateOf(t, dir).Numbers["recovery_action"] != 0; (err == nil) != (file == ".state") || done != (err == nil) {
				t.Errorf("with a link for %s a change gives %v, and is done: %v", file, err, done)
			}
			plant()
			device.SetPersistenceMode(nvml.FEATURE_DISABLED)
			text, err := os.ReadFile(victim)
			if there && string(text) != "precious" || !there && !os.IsNotExist(err) {
				t.Errorf("a link for %s: its target has %.40q, %v", file, text, err)
			}
		}
	}
}

// TestAPipeHoldsNoWriterUp, nor anything else that is no file.
func TestAPipeHoldsNoWriterUp(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	device, _ := lib.DeviceGetHandleByIndex(0)
	next := filepath.Join(dir, ".state")
	for what, do := range map[string]func() error{
		"set":      func() error { return fakegpu.Set(dir, "0", "power=1") },
		"a setter": func() error { device.SetPersistenceMode(nvml.FEATURE_DISABLED); return nil },
	} {
		check(t, os.RemoveAll(next))
		check(t, syscall.Mkfifo(next, 0o644))
		soon(t, what, do)
	}
	set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
	journal := filepath.Join(dir, "events")
	for what, make := range map[string]func() error{
		"a pipe": func() error { return syscall.Mkfifo(journal, 0o644) }, "a file without end": func() error { return os.Symlink("/dev/zero", journal) },
	} {
		check(t, os.RemoveAll(journal))
		check(t, make())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		soon(t, "watching "+what, func() error { return fakegpu.Watch(ctx, dir, io.Discard) })
		soon(t, "waiting for "+what, func() error { set.Wait(20); return nil })
	}
	state := filepath.Join(dir, "state")
	for what, make := range map[string]func() error{
		"a pipe": func() error { return syscall.Mkfifo(state, 0o644) }, "a directory": func() error { return os.Mkdir(state, 0o755) },
		"a file without end": func() error { return os.Symlink("/dev/zero", state) },
	} {
		check(t, os.RemoveAll(state))
		check(t, make())
		soon(t, "reading "+what, func() error {
			if m, err := fakegpu.Load(dir); err == nil {
				return fmt.Errorf("%s for the state is read as %v", what, m)
			}
			return nil
		})
	}
}

// TestATraceHoldsNobodyUp that is a pipe.
func TestATraceHoldsNobodyUp(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	check(t, syscall.Mkfifo(trace, 0o644))
	t.Setenv(fakegpu.EnvTrace, trace)
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	t.Setenv(fakegpu.EnvState, dir)
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	soon(t, "a call", func() error { lib.Init(); lib.Shutdown(); return nil })
}

// TestAPrivilegedClientLooksAtNoVariable of whoever has started it, who could name
// a file that only root may write as the trace.
func TestAPrivilegedClientLooksAtNoVariable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give such rights")
	}
	open := t.TempDir()
	var mount syscall.Statfs_t
	check(t, syscall.Statfs(open, &mount))
	const noSuid = 2
	if mount.Flags&noSuid != 0 {
		t.Skip("nothing here has other rights than who starts it")
	}
	check(t, os.Chmod(filepath.Dir(open), 0o755))
	check(t, os.Chmod(open, 0o755))
	check(t, os.CopyFS(open, os.DirFS(filepath.Dir(files.library))))
	dir := filepath.Join(open, "state")
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	trace := filepath.Join(open, "trace")
	t.Setenv(fakegpu.EnvTrace, trace)
	client := filepath.Join(open, "client")
	for mode, want := range map[os.FileMode]string{0o755: "0", 0o755 | os.ModeSetuid: "9"} {
		check(t, os.Chmod(client, mode))
		if got := asNobody(t, open, "load", dir); got != want {
			t.Errorf("with mode %v nvmlInit gives %s, want %s", mode, got, want)
		}
	}
	if _, err := os.Stat(trace); !os.IsNotExist(err) {
		t.Errorf("the client has written a trace: %v", err)
	}
}
