package gpu_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/scarce"
)

// Two pools stand for two runners: each opens the files for itself.
//
// catalogue: row 73
func TestAGPUIsHeldOnceOnAMachine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	devices := []gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}, {GPU: api.GPU{UUID: "GPU-1"}}}
	a, b := gpu.NewPool(devices), gpu.NewPool(devices)
	for _, p := range []*gpu.Pool{a, b} {
		p.LockIn(dir, slog.New(slog.DiscardHandler))
	}
	one := api.Resources{GPUs: 1}
	first, ok1 := a.Reserve("a", one, nil)
	second, ok2 := b.Reserve("b", one, nil)
	if !ok1 || !ok2 || first[0] == second[0] {
		t.Fatalf("reserved %v and %v, want two different ones", first, second)
	}
	changed := b.State()
	if third, ok := b.Reserve("c", one, nil); ok {
		t.Fatalf("reserved %v, which the other has", third)
	}
	// A supervisor outlives its runner, and so does its lock.
	attempt := exec.Command("sleep", "1000")
	attempt.ExtraFiles = a.Locks(first)
	if err := attempt.Start(); err != nil {
		t.Fatal(err)
	}
	defer attempt.Process.Kill()
	a.Free(first)
	<-changed.Done() // it tries again by itself
	if third, ok := b.Reserve("c", one, nil); ok {
		t.Fatalf("reserved %v, which an attempt has that has not ended", third)
	}
	attempt.Process.Kill()
	attempt.Wait()
	for ok := false; !ok; {
		changed = b.State()
		if _, ok = b.Reserve("c", one, nil); !ok {
			<-changed.Done()
		}
	}
	if got := a.Locks(first); len(got) != 0 {
		t.Errorf("locks of devices that were freed: %v", got)
	}
}

// Who does not get all that it needs keeps nothing of it, and every user of the
// machine may lock.
func TestLocksOfWhatIsNotReserved(t *testing.T) {
	percent := debug.SetGCPercent(-1) // it would close what was forgotten
	defer debug.SetGCPercent(percent)
	dir := filepath.Join(t.TempDir(), "locks")
	devices := []gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}, {GPU: api.GPU{UUID: "GPU-1"}}}
	pool := func(devices []gpu.Device) *gpu.Pool {
		p := gpu.NewPool(devices)
		p.LockIn(dir, slog.New(slog.DiscardHandler))
		return p
	}
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(entries)
	}
	pool(devices[1:]).Reserve("a", api.Resources{GPUs: 1}, nil)
	if info, err := os.Stat(dir); err != nil || info.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("the directory of the locks is %v, %v, want one for everybody", info.Mode(), err)
	}
	before := files()
	for range 5 {
		if got, ok := pool(devices).Reserve("b", api.Resources{GPUs: 2}, nil); ok {
			t.Fatalf("reserved %v, of which another has one", got)
		}
	}
	if after := files(); after > before+1 {
		t.Errorf("%d files are open, %d were before", after, before)
	}
	if _, ok := pool(devices[:1]).Reserve("c", api.Resources{GPUs: 1}, nil); !ok {
		t.Error("not reserved, though nobody has it")
	}
}

// A cleaner of /tmp removes the files: who has one keeps it, and others agree on
// the new one.
func TestTheLocksAreRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "locks")
	pools := make([]*gpu.Pool, 2)
	for i := range pools {
		pools[i] = gpu.NewPool([]gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}})
		pools[i].LockIn(dir, slog.New(slog.DiscardHandler))
	}
	uuids, _ := pools[0].Reserve("a", api.Resources{GPUs: 1}, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	pools[0].Free(uuids)
	if _, ok := pools[0].Reserve("a", api.Resources{GPUs: 1}, nil); !ok {
		t.Error("not reserved")
	}
	if _, ok := pools[1].Reserve("b", api.Resources{GPUs: 1}, nil); ok {
		t.Error("reserved twice")
	}
}

// A GPU that cannot be locked for want of a descriptor is nobody's, and a link in place of
// its lock leads nowhere and holds up nobody.
func TestALockThatIsRefused(t *testing.T) {
	var log strings.Builder
	dir := filepath.Join(t.TempDir(), "locks")
	p := gpu.NewPool([]gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}})
	p.LockIn(dir, slog.New(slog.NewTextHandler(&log, nil)))
	one := api.Resources{GPUs: 1}
	changed := p.State()
	giveBack := scarce.Descriptors(t, 0)
	got, ok := p.Reserve("a", one, nil)
	giveBack()
	if ok || strings.Count(log.String(), "trying again") != 1 {
		t.Fatalf("reserved %v without a lock; said is %q", got, &log)
	}
	<-changed.Done()
	if got, ok = p.Reserve("a", one, nil); !ok || len(p.Locks(got)) != 1 {
		t.Fatalf("reserved %v with %d locks a moment later, want the GPU and one", got, len(p.Locks(got)))
	}
	p.Free(got)
	if err := errors.Join(os.Remove(filepath.Join(dir, "GPU-0")), os.Symlink("nowhere", filepath.Join(dir, "GPU-0"))); err != nil {
		t.Fatal(err)
	}
	if _, ok = p.Reserve("a", one, nil); !ok || strings.Count(log.String(), "--gpu-lock") != 1 {
		t.Errorf("with a link for a lock, reserved is %t, and said %q", ok, &log)
	}
}

func TestWithoutLocksItIsSaidOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	p := gpu.NewPool([]gpu.Device{{GPU: api.GPU{UUID: "GPU-0"}}})
	p.LockIn(filepath.Join(file, "locks"), slog.New(slog.NewTextHandler(&log, nil)))
	for range 2 {
		uuids, ok := p.Reserve("a", api.Resources{GPUs: 1}, nil)
		if !ok {
			t.Fatal("not reserved, though nobody else has it")
		}
		p.Free(uuids)
	}
	if got := strings.Count(log.String(), "--gpu-lock"); got != 1 {
		t.Errorf("said %d times, want once:\n%s", got, &log)
	}
}
