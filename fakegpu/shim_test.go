package fakegpu_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/fakegpu"
)

func TestExportsEveryFunctionOfTheHeader(t *testing.T) {
	header, err := os.ReadFile(filepath.Join(files.header, "nvml.h"))
	if err != nil {
		t.Fatal(err)
	}
	header = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAll(header, nil)
	var want []string
	for _, m := range regexp.MustCompile(`nvmlReturn_t\s+DECLDIR\s+(nvml\w+)\s*\(|DECLDIR\s+char\s*\*\s*(nvml\w+)\s*\(`).FindAllSubmatch(header, -1) {
		want = append(want, string(m[1])+string(m[2]))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	if len(want) < 400 {
		t.Fatalf("the header declares %d functions, want over 400: the expression is wrong", len(want))
	}

	symbols, err := output("nm", "-D", "--defined-only", files.library)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(symbols) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[1] == "T" {
			got = append(got, fields[2])
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("exported symbols (-want +got):\n%s", diff)
	}
}

// clients are the C client and the library, as they are and with sanitizers.
func clients(t *testing.T) map[string][2]string {
	all := map[string][2]string{"plain": {files.client, files.library}}
	if files.sanitizedClient == "" {
		t.Log("gcc has no sanitizers here: not tested with them")
	} else {
		all["sanitized"] = [2]string{files.sanitizedClient, files.sanitizedLibrary}
	}
	return all
}

func TestClientInC(t *testing.T) {
	dir := t.TempDir()
	gpus := machine(t, dir, fakegpu.Spec{Profile: "T4", Count: 3})
	for name, c := range clients(t) {
		for _, binding := range []string{"now", "lazy"} {
			t.Run(name+"/"+binding, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), c[0], c[1], binding, "check", gpus[0].UUID, strconv.Itoa(len(gpus)))
				cmd.Env = append(os.Environ(), fakegpu.EnvState+"="+dir)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("client: %v\n%s", err, out)
				}
			})
		}
	}
}

// TestClientInCOnDamage starts on every damaged state, in one process that the
// sanitizers watch.
func TestClientInCOnDamage(t *testing.T) {
	var dirs []string
	var want []bool
	for _, d := range damages(t) {
		dir := t.TempDir()
		put(t, dir, d.text)
		dirs, want = append(dirs, dir), append(want, d.surely)
	}
	for name, c := range clients(t) {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), c[0], append([]string{c[1], "now", "load"}, dirs...)...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil {
				t.Fatalf("client: %v\n%s%s", err, out.Bytes(), errs.Bytes())
			}
			codes := strings.Fields(out.String())
			if len(codes) != len(dirs) {
				t.Fatalf("the client reports %d codes, want %d", len(codes), len(dirs))
			}
			for i, code := range codes {
				if code != "999" && (want[i] || code != "0") {
					t.Errorf("damage %d: nvmlInit gives %s, want 999", i, code)
				}
			}
		})
	}
}
