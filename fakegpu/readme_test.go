package fakegpu_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadmeNamesEveryModelledFunction compares the table with the C code.
func TestReadmeNamesEveryModelledFunction(t *testing.T) {
	want := []string{"Init", "Init_v2", "InitWithFlags", "Shutdown"} // which are in call.c
	sources, err := filepath.Glob(filepath.Join("shim", "nvml_*.c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range sources {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^(?:(?:nvmlReturn_t |const char \*)model_|GETTER\()nvml(\w+)[(,]`).FindAllSubmatch(source, -1) {
			want = append(want, string(m[1]))
		}
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(readme), "| Function (nvml…) |")
	if !found {
		t.Fatal("README.md has no table of functions")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var got []string
	for _, row := range strings.Split(table, "\n")[2:] {
		name := ""
		for cell := range strings.SplitSeq(strings.Split(row, "|")[1], ",") {
			cell = strings.TrimSpace(cell)
			if !strings.HasPrefix(cell, "_") {
				name, cell = cell, ""
			}
			got = append(got, name+cell)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README.md's table of functions (-C code +README):\n%s", diff)
	}
}
