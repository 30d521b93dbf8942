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
	want, err := generate(filepath.Join("..", shim))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join("..", output))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is old, run go generate ./fakegpu (-want +got):\n%s", output, diff)
	}
}
