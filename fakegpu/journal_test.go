package fakegpu_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

const allTypes = nvml.EventTypeXidCriticalError | nvml.EventTypePState | nvml.EventTypeClock | nvml.EventMigConfigChange

// listen registers for events of a GPU.
func listen(t *testing.T, lib nvml.Interface, index int, types uint64) nvml.EventSet {
	t.Helper()
	device, r := lib.DeviceGetHandleByIndex(index)
	if r != nvml.SUCCESS {
		t.Fatalf("DeviceGetHandleByIndex: %v", r)
	}
	set, r := lib.EventSetCreate()
	if r != nvml.SUCCESS {
		t.Fatalf("EventSetCreate: %v", r)
	}
	t.Cleanup(func() { set.Free() })
	if r := device.RegisterEvents(types, set); r != nvml.SUCCESS {
		t.Fatalf("RegisterEvents(%#x): %v", types, r)
	}
	return set
}

// hears wants these events of a set, as TYPE DATA, and no others.
func hears(t *testing.T, set nvml.EventSet, want ...string) {
	t.Helper()
	var got []string
	for range want {
		e, r := set.Wait(10_000)
		if r != nvml.SUCCESS {
			t.Fatalf("after %v Wait gives %v, want %v", got, r, want)
		}
		got = append(got, fmt.Sprintf("%#x %d", e.EventType, e.EventData))
	}
	if e, r := set.Wait(0); r != nvml.ERROR_TIMEOUT {
		got = append(got, fmt.Sprintf("%#x %d", e.EventType, e.EventData))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestAWaiterHearsOfWhatReplacesTheDirectory has all the ways in which the
// journal can become another one while a client waits: it hears each event that
// was raised after it had asked, and none from before.
func TestAWaiterHearsOfWhatReplacesTheDirectory(t *testing.T) {
	spec := fakegpu.Spec{Profile: "T4", Count: 1, Seed: "journal"}
	busy := func(t *testing.T, dir string, xids int) string {
		machine(t, dir, spec)
		for n := range xids {
			check(t, fakegpu.RaiseXid(dir, "0", uint64(100+n)))
		}
		return dir
	}
	for _, test := range []struct {
		name    string
		replace func(t *testing.T, dir string, old string) // old was made before the client has asked
	}{
		{"not at all", func(*testing.T, string, string) {}},
		{"created again", func(t *testing.T, dir, _ string) { machine(t, dir, spec) }},
		{"removed and created", func(t *testing.T, dir, _ string) {
			check(t, os.RemoveAll(dir))
			machine(t, dir, spec)
		}},
		{"removed and created, for a time longer than a look", func(t *testing.T, dir, _ string) {
			check(t, os.RemoveAll(dir))
			time.Sleep(20 * time.Millisecond) // that long there is none, which the client sees
			machine(t, dir, spec)
		}},
		{"renamed", func(t *testing.T, dir, old string) {
			check(t, os.Rename(dir, dir+".gone"))
			check(t, os.Rename(old, dir))
		}},
		{"linked", func(t *testing.T, dir, old string) {
			check(t, os.Rename(dir, dir+".gone"))
			check(t, os.Symlink(old, dir))
		}},
		{"without its journal", func(t *testing.T, dir, _ string) { check(t, os.Remove(filepath.Join(dir, "events"))) }},
		{"with an empty journal", func(t *testing.T, dir, _ string) { check(t, os.Truncate(filepath.Join(dir, "events"), 0)) }},
		{"with a longer journal at the same inode", func(t *testing.T, dir, old string) {
			journal, err := os.ReadFile(filepath.Join(old, "events"))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, "events"), journal, 0o644))
		}},
	} {
		for _, wasBusy := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s after %d events", test.name, wasBusy), func(t *testing.T) {
				if wasBusy == 0 && strings.Contains(test.name, "journal") {
					t.Skip("there is no journal to replace")
				}
				dir := filepath.Join(t.TempDir(), "state")
				busy(t, dir, wasBusy)
				old := busy(t, filepath.Join(t.TempDir(), "old"), 9)
				t.Setenv(fakegpu.EnvState, dir)
				lib := nvml.New(nvml.WithLibraryPath(files.library))
				if r := lib.Init(); r != nvml.SUCCESS {
					t.Fatal(r)
				}
				defer lib.Shutdown()
				set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
				if wasBusy > 0 {
					check(t, fakegpu.RaiseXid(dir, "0", 47))
					hears(t, set, "0x8 47")
				}
				waits := make(chan struct{})
				go func() { defer close(waits); hears(t, set, "0x8 48", "0x8 49") }()
				test.replace(t, dir, old)
				check(t, fakegpu.RaiseXid(dir, "0", 48))
				check(t, fakegpu.RaiseXid(dir, "0", 49))
				<-waits
			})
		}
	}
}

// TestEveryAdvertisedEventComes raises each type that the library says a model
// has, by what causes it, and has RaiseEvent refuse the others.
func TestEveryAdvertisedEventComes(t *testing.T) {
	causes := map[uint64]func(dir string) error{
		nvml.EventTypeSingleBitEccError: func(dir string) error { return fakegpu.CountECC(dir, "0", false, 1) },
		nvml.EventTypeDoubleBitEccError: func(dir string) error { return fakegpu.Set(dir, "0", "ecc_sram_uncorrected_volatile=1") },
		nvml.EventTypePState: func(dir string) error {
			for _, slow := range []string{"pstate=2", "pstate=8"} {
				if err := fakegpu.Set(dir, "0", slow); err == nil {
					return nil
				}
			}
			return fakegpu.RaiseEvent(dir, "0", nvml.EventTypePState, 0) // it has no other state
		},
		nvml.EventTypeXidCriticalError: func(dir string) error { return fakegpu.RaiseXid(dir, "0", 31) },
		nvml.EventTypeClock:            func(dir string) error { return fakegpu.Set(dir, "0", "pstate=0", "clock_sm=900") },
		nvml.EventMigConfigChange: func(dir string) error {
			m, err := fakegpu.Load(dir)
			if err != nil {
				return err
			}
			return fakegpu.SplitMIG(dir, "0", fakegpu.MIGProfiles(m.GPUs[0])[0])
		},
		nvml.EventTypeDramRetirementEvent:   func(dir string) error { return fakegpu.Set(dir, "0", "remap_pending=1") },
		nvml.EventTypeDramRetirementFailure: func(dir string) error { return fakegpu.Set(dir, "0", "remap_failed=1") },
		nvml.EventTypeGpuRecoveryAction:     func(dir string) error { return fakegpu.RaiseXid(dir, "0", 48) },
		nvml.EventTypeGpuUnavailableError:   func(dir string) error { return fakegpu.Set(dir, "0", "lost=1") },
	}
	for _, profile := range fakegpu.Profiles() {
		t.Run(profile, func(t *testing.T) {
			lib, dir, _ := open(t, fakegpu.Spec{Profile: profile, Count: 1})
			device, _ := lib.DeviceGetHandleByIndex(0)
			types, r := device.GetSupportedEventTypes()
			if r != nvml.SUCCESS || types&nvml.EventTypeXidCriticalError == 0 {
				t.Fatalf("GetSupportedEventTypes: %#x, %v", types, r)
			}
			for kind := uint64(1); kind <= nvml.EventTypeAll; kind <<= 1 {
				err := fakegpu.RaiseEvent(dir, "0", kind, 7)
				if types&kind == 0 {
					refused(t, err, "raises no event")
					continue
				}
				check(t, err)
				set := listen(t, lib, 0, kind)
				cause := causes[kind]
				if cause == nil { // there is nothing in the state that it could come from
					cause = func(dir string) error { return fakegpu.RaiseEvent(dir, "0", kind, 7) }
				}
				check(t, cause(dir))
				if e, r := set.Wait(10_000); r != nvml.SUCCESS || e.EventType != kind {
					t.Errorf("event %#x: Wait gives %#x, %v", kind, e.EventType, r)
				}
				check(t, fakegpu.Heal(dir, "all"))
				until(t, "it is healed", func() bool { _, r := device.GetName(); return r == nvml.SUCCESS })
			}
		})
	}
}

func TestSetRaisesItsEvents(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	set := listen(t, lib, 0, allTypes)
	check(t, fakegpu.Set(dir, "0", "pstate=2", "clock_sm=900"))
	check(t, fakegpu.Set(dir, "0", "temperature=50"))
	check(t, fakegpu.Set(dir, "1", "pstate=2"))
	check(t, fakegpu.SplitMIG(dir, "0", "1g.10gb"))
	check(t, fakegpu.SplitMIG(dir, "0", "1g.10gb", "1g.10gb"))
	check(t, fakegpu.SplitMIG(dir, "0"))
	hears(t, set, "0x4 2", "0x10 900", "0x100 1", "0x100 1", "0x100 0")
}

// TestEventsOfAMIGDeviceHaveItsInstances, by which its owner knows them.
func TestEventsOfAMIGDeviceHaveItsInstances(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "H100-80GB", Count: 2})
	check(t, fakegpu.SplitMIG(dir, "1", "1g.10gb", "3g.40gb"))
	set := listen(t, lib, 1, nvml.EventTypeXidCriticalError)
	m, err := fakegpu.Load(dir)
	check(t, err)
	for _, d := range m.GPUs[1].MIGs {
		check(t, fakegpu.RaiseXid(dir, d.UUID, 43))
		if e, r := set.Wait(10_000); r != nvml.SUCCESS || uint64(e.GpuInstanceId) != d.GI || uint64(e.ComputeInstanceId) != d.CI {
			t.Errorf("event of instance %d: Wait gives %d and %d, %v", d.GI, e.GpuInstanceId, e.ComputeInstanceId, r)
		}
	}
	check(t, fakegpu.RaiseXid(dir, "1", 43))
	if e, r := set.Wait(10_000); r != nvml.SUCCESS || e.GpuInstanceId != 0xffffffff || e.ComputeInstanceId != 0xffffffff {
		t.Errorf("event of the GPU: Wait gives %d and %d, %v", e.GpuInstanceId, e.ComputeInstanceId, r)
	}
	refused(t, fakegpu.RaiseXid(dir, "MIG-none", 43), "there is no GPU")
}

// TestATornLineIsNoEvent has a writer that was killed in the middle of a line,
// which looks like another event.
func TestATornLineIsNoEvent(t *testing.T) {
	lib, dir, gpus := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
	for _, torn := range []string{" 8 4", " 8 48 4294967295 42", " 8", "", " 8 48 4294967295 4294967295 17"} {
		f, err := os.OpenFile(filepath.Join(dir, "events"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
		check(t, err)
		_, err = f.WriteString(gpus[0].UUID + torn)
		check(t, err)
		check(t, f.Close())
		check(t, fakegpu.RaiseXid(dir, "0", 95))
		hears(t, set, "0x8 95")
	}
}

// TestACutJournalRepeatsNothing: a writer that finds no room on the disk takes
// back what it has written of its events.
func TestACutJournalRepeatsNothing(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
	check(t, fakegpu.RaiseXid(dir, "0", 13))
	journal := filepath.Join(dir, "events")
	kept, err := os.Stat(journal)
	check(t, err)
	check(t, fakegpu.RaiseXid(dir, "0", 31))
	hears(t, set, "0x8 13", "0x8 31")
	check(t, os.Truncate(journal, kept.Size()))
	hears(t, set)
	check(t, fakegpu.RaiseXid(dir, "0", 43))
	hears(t, set, "0x8 43")
}

// TestAPipeHoldsNobodyUp, where a file should be.
func TestAPipeHoldsNobodyUp(t *testing.T) {
	lib, dir, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
	check(t, fakegpu.RaiseXid(dir, "0", 13))
	hears(t, set, "0x8 13")
	for _, file := range []string{"events", "state"} {
		pipe := filepath.Join(dir, file)
		check(t, os.Remove(pipe))
		check(t, syscall.Mkfifo(pipe, 0o644))
		answer := make(chan nvml.Return, 1)
		go func() { _, r := set.Wait(20); answer <- r }()
		select {
		case r := <-answer:
			if r != nvml.ERROR_TIMEOUT {
				t.Errorf("with a pipe for %s Wait gives %v", file, r)
			}
		case <-time.After(time.Minute):
			t.Errorf("a pipe for %s holds Wait up", file)
			writer, err := os.OpenFile(pipe, os.O_RDWR, 0) // which lets it go on
			check(t, err)
			check(t, writer.Close())
			<-answer
		}
	}
}

// TestWaitsTakeTheirTime: to the microsecond, never less.
func TestWaitsTakeTheirTime(t *testing.T) {
	lib, _, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 1})
	set := listen(t, lib, 0, nvml.EventTypeXidCriticalError)
	for n := range 100 {
		timeout := time.Duration(1+n%3) * time.Millisecond
		start := time.Now()
		if _, r := set.Wait(uint32(timeout.Milliseconds())); r != nvml.ERROR_TIMEOUT {
			t.Fatalf("Wait gives %v", r)
		}
		if took := time.Since(start); took < timeout {
			t.Fatalf("Wait took %v, want at least %v", took, timeout)
		}
	}
}

// TestHandlesEndWithTheLastShutdown, and are not those of other GPUs then.
func TestHandlesEndWithTheLastShutdown(t *testing.T) {
	lib, _, _ := open(t, fakegpu.Spec{Profile: "T4", Count: 2})
	old, _ := lib.DeviceGetHandleByIndex(0)
	lib.Init()
	lib.Shutdown()
	if _, r := old.GetUUID(); r != nvml.SUCCESS {
		t.Errorf("after the first of two Shutdowns GetUUID gives %v", r)
	}
	for range 3000 { // more often than there are handles
		lib.Shutdown()
		if r := lib.Init(); r != nvml.SUCCESS {
			t.Fatalf("Init: %v", r)
		}
		fresh, r := lib.DeviceGetHandleByIndex(1)
		if r != nvml.SUCCESS {
			t.Fatalf("DeviceGetHandleByIndex: %v", r)
		}
		if _, r := old.GetUUID(); r != nvml.ERROR_INVALID_ARGUMENT {
			t.Fatalf("after the last Shutdown GetUUID gives %v", r)
		}
		old = fresh
	}
}

// TestInitTellsPermissionFromAbsence asks as a user who may not read.
func TestInitTellsPermissionFromAbsence(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	open := t.TempDir() // which, as its parents, everybody may enter
	check(t, os.Chmod(filepath.Dir(open), 0o755))
	check(t, os.Chmod(open, 0o755))
	check(t, os.CopyFS(open, os.DirFS(filepath.Dir(files.library))))
	ask := func(dir string) string {
		return asNobody(t, open, "load", dir)
	}
	locked, unreadable, absent := filepath.Join(open, "locked"), filepath.Join(open, "unreadable"), filepath.Join(open, "absent")
	for _, d := range []string{locked, unreadable} {
		machine(t, d, fakegpu.Spec{Profile: "T4", Count: 1})
	}
	check(t, os.Chmod(locked, 0))
	defer os.Chmod(locked, 0o755)
	check(t, os.Chmod(filepath.Join(unreadable, "state"), 0))
	for dir, want := range map[string]string{locked: "4", unreadable: "4", absent: "9", filepath.Join(unreadable, "state"): "9"} {
		if got := ask(dir); got != want {
			t.Errorf("nvmlInit on %s gives %s, want %s", filepath.Base(dir), got, want)
		}
	}
}

// asNobody starts the client without any rights.
func asNobody(t *testing.T, programs, what, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(programs, "client"), filepath.Join(programs, "libnvidia-ml.so.1"), "now", what, dir)
	cmd.Env = append(os.Environ(), fakegpu.EnvState+"="+dir)
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("client: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestARelativePathStaysWhatItWas: a client may change its directory.
func TestARelativePathStaysWhatItWas(t *testing.T) {
	dir := t.TempDir()
	machine(t, filepath.Join(dir, "gpus"), fakegpu.Spec{Profile: "T4", Count: 1})
	t.Chdir(dir)
	t.Setenv(fakegpu.EnvState, "gpus")
	t.Setenv(fakegpu.EnvTrace, "trace")
	lib := nvml.New(nvml.WithLibraryPath(files.library))
	if r := lib.Init(); r != nvml.SUCCESS {
		t.Fatal(r)
	}
	defer lib.Shutdown()
	t.Chdir(t.TempDir())
	machine(t, filepath.Join(dir, "gpus"), fakegpu.Spec{Profile: "T4", Count: 3})
	until(t, "the change is seen", func() bool { n, _ := lib.DeviceGetCount(); return n == 3 })
	if trace, err := os.ReadFile(filepath.Join(dir, "trace")); err != nil || !strings.Contains(string(trace), "nvmlDeviceGetCount_v2") {
		t.Errorf("the trace is %q, %v", trace, err)
	}
	if r := lib.Shutdown(); r != nvml.SUCCESS {
		t.Fatal(r)
	}
	if r := lib.Init(); r != nvml.SUCCESS {
		t.Fatalf("a client that has gone elsewhere and starts again gets %v", r)
	}
	if _, err := os.Stat("trace"); !os.IsNotExist(err) {
		t.Errorf("a trace where the client has gone: %v", err)
	}
}
