package fakegpu_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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

func TestLoadGivesWhatCreateMade(t *testing.T) {
	dir := t.TempDir()
	for _, profile := range fakegpu.Profiles() {
		for _, count := range []int{0, 1, 64} {
			want := machine(t, dir, fakegpu.Spec{Profile: profile, Count: count})
			got, err := fakegpu.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got.GPUs, cmpopts.EquateEmpty()); diff != "" || len(want) != count {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		}
	}
	info, err := os.Stat(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o644 {
		t.Errorf("mode is %v, want 0644: clients may be other users", info.Mode())
	}
}

// TestGenerationGrows: the library tells a new state by the time of the file.
func TestGenerationGrows(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 1})
	var last time.Time
	for range 200 {
		if err := fakegpu.Set(dir, "0", "power=1"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		if !info.ModTime().After(last) {
			t.Fatalf("time is %v after %v, want a later one", info.ModTime(), last)
		}
		last = info.ModTime()
	}
}

func TestWritersLoseNothing(t *testing.T) {
	dir := t.TempDir()
	machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 8})
	var wg sync.WaitGroup
	for gpu := range 8 {
		wg.Go(func() {
			for range 20 {
				if err := fakegpu.CountECC(dir, strconv.Itoa(gpu), false, 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m, err := fakegpu.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range m.GPUs {
		if n := g.Numbers["ecc_dram_corrected_volatile"]; n != 20 {
			t.Errorf("GPU %d has %d errors, want 20", i, n)
		}
	}
	journal, err := os.ReadFile(filepath.Join(dir, "events"))
	if n := strings.Count(string(journal), " 1 0 "); err != nil || n != 160 {
		t.Errorf("the journal has %d events, %v, want 160", n, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, d := range damages(t) {
		dir := t.TempDir()
		put(t, dir, d.text)
		if _, err := fakegpu.Load(dir); d.surely && err == nil {
			t.Errorf("%s: Load gives no error", d.name)
		}
	}
	empty, cut, wrong, bare := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	machine(t, cut, fakegpu.Spec{Profile: "T4", Count: 2})
	good := read(t, cut)
	put(t, cut, good[:len(good)/2])
	put(t, wrong, []byte("driver 1\nnvml 1\ngpu GPU-1\nname x\nbus one\nend\n"))
	put(t, bare, []byte("driver 1\nnvml 1\ngpu GPU-1\nname x\nvbios\nend\n"))
	for _, test := range []struct{ name, dir, want string }{
		{"empty directory", empty, "fakegpu create"},
		{"half a file", cut, "does not end with"},
		{"no number", wrong, `line 5: bus: "one"`},
		{"no value", bare, `line 5: "vbios" has no value`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if m, err := fakegpu.Load(test.dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Load gives %v, %v, want an error with %q", m, err, test.want)
			}
		})
	}
}

func TestProfilesAreSane(t *testing.T) {
	const nvidia = 0x10DE // PCI vendor
	for _, name := range fakegpu.Profiles() {
		t.Run(name, func(t *testing.T) {
			g, err := fakegpu.LoadProfile(name)
			if err != nil {
				t.Fatal(err)
			}
			p := g.Numbers
			if g.Name == "" || len(g.Name) > 95 {
				t.Errorf("name is %q, want 1 to 95 bytes", g.Name)
			}
			within(t, "brand", p["brand"], 1, 20)
			within(t, "architecture", p["architecture"], 2, 12) // Kepler to the newest that nvml.h names
			within(t, "compute capability", p["cc_major"], 3, 12)
			within(t, "compute capability, minor", p["cc_minor"], 0, 9)
			within(t, "memory", p["memory"], 1<<30, 1<<40)
			within(t, "PCI vendor", p["pci_device"]&0xffff, nvidia, nvidia)
			within(t, "PCI device", p["pci_device"]>>16, 1, 0xffff)
			within(t, "power limit", p["power_limit"], p["power_min"], p["power_max"])
			within(t, "CUDA cores an SM", p["cores"]/p["sms"], 64, 128)
			within(t, "BAR1", p["bar1"], 1<<28, 1<<40)
		})
	}
}

func within(t *testing.T, what string, got, least, most uint64) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("%s is %d, want %d to %d", what, got, least, most)
	}
}
