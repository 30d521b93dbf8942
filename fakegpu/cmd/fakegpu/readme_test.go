package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// elsewhere are the README's blocks that TestReadme does not type, by how they begin.
var elsewhere = map[string]string{
	"make compare-card": "make full types it, with a fake card",
}

// TestReadme types what fakegpu's README has, from the first block to the last.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, self := t.TempDir(), os.Args[0]
	if self, err = filepath.Abs(self); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{"fakegpu": self, nvidiaSMI: self, "libnvidia-ml.so.1": shim} {
		if err := os.Symlink(file, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	// These are built by now, and a table that is shown again and again is seen once.
	here := strings.NewReplacer("make build && ", "", "/tmp/", dir+"/", " -l 5", " -l 5 | sed 2q")
	script := []string{"set -e"}
	skipped := map[string]bool{}
blocks:
	for _, found := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for begin := range elsewhere {
			if strings.HasPrefix(found[1], begin) {
				skipped[begin] = true
				continue blocks
			}
		}
		script = append(script, here.Replace(found[1]))
	}
	if len(skipped) != len(elsewhere) || len(script) < 4 {
		t.Errorf("README has blocks that begin with %v; must be all of %v, and others", skipped, elsewhere)
	}

	sh := exec.CommandContext(t.Context(), "bash", "-c", strings.Join(script, "\n"))
	sh.Dir, sh.WaitDelay = dir, 10*time.Second
	sh.Env = append(os.Environ(), "FAKEGPU_LIBRARY="+filepath.Join(bin, "libnvidia-ml.so.1"), "GORACE=atexit_sleep_ms=0")
	out, err := sh.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"|   7  NVIDIA H100 80GB HBM3", // of the first line
		"GPU 0: NVIDIA H100 80GB HBM3", "  MIG 3g.40gb", "GPU 8: Tesla T4",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if m := load(t, filepath.Join(dir, "mixed")); len(m.GPUs) != 6 {
		t.Errorf("%d GPUs of two models, want 6", len(m.GPUs))
	}
}
