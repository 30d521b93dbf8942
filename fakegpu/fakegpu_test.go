package fakegpu_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func TestCreateRefuses(t *testing.T) {
	for _, test := range []struct {
		name string
		spec fakegpu.Spec
		want []string // parts of the message
	}{
		{"unknown profile", fakegpu.Spec{Profile: "Voodoo2", Count: 1}, append([]string{`"Voodoo2"`}, fakegpu.Profiles()...)},
		{"no profile", fakegpu.Spec{Count: 1}, fakegpu.Profiles()},
		{"path as profile", fakegpu.Spec{Profile: "../profiles/T4", Count: 1}, fakegpu.Profiles()},
		{"count below", fakegpu.Spec{Profile: "T4", Count: -1}, []string{"-1", "0 to 64"}},
		{"count above", fakegpu.Spec{Profile: "T4", Count: 65}, []string{"65", "0 to 64"}},
		{"init error below", fakegpu.Spec{Profile: "T4", InitError: -1}, []string{"-1", "0 to 999"}},
		{"init error above", fakegpu.Spec{Profile: "T4", InitError: 1000}, []string{"1000", "0 to 999"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			_, err := fakegpu.Create(dir, test.spec)
			if err == nil {
				t.Fatal("Create gives no error")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error is %q, want %q in it", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %q, want one line", err)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("stat of the state directory: %v, want that it does not exist", err)
			}
		})
	}
}

func TestCreateIsStable(t *testing.T) {
	of := func(profile, seed string, count int) []string {
		return uuidsOf(machine(t, t.TempDir(), fakegpu.Spec{Profile: profile, Count: count, Seed: seed}))
	}
	first := of("T4", "a", 64)
	if diff := cmp.Diff(first, of("H200", "a", 64)); diff != "" {
		t.Errorf("the same seed gives other UUIDs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(first[:3], of("T4", "a", 3)); diff != "" {
		t.Errorf("another count gives other UUIDs (-want +got):\n%s", diff)
	}
	all := append(slices.Clone(first), of("T4", "b", 64)...)
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != 128 {
		t.Errorf("two seeds give %d UUIDs, want 128", n)
	}
}

func TestListGivesWhatCreateMade(t *testing.T) {
	dir := t.TempDir()
	for _, count := range []int{0, 1, 64} {
		want := machine(t, dir, fakegpu.Spec{Profile: "A100-40GB", Count: count})
		got, err := fakegpu.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || len(got) != count {
			t.Errorf("List (-want +got):\n%s", diff)
		}
	}
	// What was made must be all that is there, readable by every user.
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "state" {
		t.Errorf("the state directory has %v, want the file state", entries)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o644 {
		t.Errorf("mode is %v, want 0644", info.Mode())
	}
}

func TestListRefuses(t *testing.T) {
	empty, cut, wrong := t.TempDir(), t.TempDir(), t.TempDir()
	machine(t, cut, fakegpu.Spec{Profile: "T4", Count: 2})
	good := read(t, cut)
	put(t, cut, good[:len(good)/2])
	put(t, wrong, []byte("gpu GPU-1\nbus one\nend\n"))
	for _, test := range []struct{ name, dir, want string }{
		{"empty directory", empty, "fakegpu create"},
		{"half a file", cut, "damaged"},
		{"no number", wrong, "one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if gpus, err := fakegpu.List(test.dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("List gives %v, %v, want an error with %q", gpus, err, test.want)
			}
		})
	}
}

func TestProfilesAreSane(t *testing.T) {
	const nvidia = 0x10DE // PCI vendor
	for _, name := range fakegpu.Profiles() {
		t.Run(name, func(t *testing.T) {
			p, err := fakegpu.LoadProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			if p.Name == "" || len(p.Name) > 95 {
				t.Errorf("name is %q, want 1 to 95 bytes", p.Name)
			}
			within(t, "brand", p.Brand, 1, 20)
			within(t, "architecture", p.Architecture, 2, 12) // Kepler to the newest that nvml.h names
			within(t, "compute capability", p.ComputeCapability[0], 3, 12)
			within(t, "compute capability, minor", p.ComputeCapability[1], 0, 9)
			within(t, "memory", p.MemoryMiB, 1<<10, 1<<20)
			within(t, "reserved memory", p.ReservedMiB, 0, p.MemoryMiB/10)
			within(t, "PCI vendor", p.PCIDevice&0xffff, nvidia, nvidia)
			within(t, "PCI device", p.PCIDevice>>16, 1, 0xffff)
			within(t, "PCI subsystem vendor", p.PCISubsystem&0xffff, nvidia, nvidia)
			within(t, "temperature", p.Temperature, 15, 60)
			within(t, "idle power", p.PowerMilliwatts, 1000, 200_000)
		})
	}
}

func within[N int | uint32 | uint64](t *testing.T, what string, got, least, most N) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s is %d, want %d to %d", what, got, least, most)
	}
}
