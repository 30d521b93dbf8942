package fakegpu_test

import (
	"debug/elf"
	"fmt"
	"strings"
	"testing"
)

// newestGLIBC is that of the oldest distribution that NVIDIA's driver is for.
const newestGLIBC = 17 // 2.17

// TestTheLibraryLoadsOnOldMachines reads what the library asks of the loader: no
// other library than libc, and nothing of glibc that is younger than 2.17.
func TestTheLibraryLoadsOnOldMachines(t *testing.T) {
	for name, library := range files.libraries {
		file, err := elf.Open(library)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		needed, err := file.ImportedLibraries()
		if err != nil || len(needed) != 1 || needed[0] != "libc.so.6" {
			t.Errorf("%s needs %v, %v, want libc.so.6", name, needed, err)
		}
		symbols, err := file.ImportedSymbols()
		if err != nil || len(symbols) < 10 {
			t.Fatalf("%s imports %d symbols, %v, want more: they are not read right", name, len(symbols), err)
		}
		for _, s := range symbols {
			version, ok := strings.CutPrefix(s.Version, "GLIBC_")
			if !ok {
				continue // __cxa_finalize and its like, which are weak
			}
			var major, minor int
			if n, err := fmt.Sscanf(version, "%d.%d", &major, &minor); n != 2 || err != nil || major != 2 || minor > newestGLIBC {
				t.Errorf("%s needs %s of GLIBC_%s, want 2.%d at most", name, s.Name, version, newestGLIBC)
			}
		}
	}
}
