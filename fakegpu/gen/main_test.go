package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpToDate fails when someone models a function, or takes a new nvml.h, and
// forgets go generate.
func TestUpToDate(t *testing.T) {
	files, err := generate(filepath.Join("..", shim))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", shim, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is old, run go generate ./fakegpu (-want +got):\n%s", name, diff)
		}
	}
}
