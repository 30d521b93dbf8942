package main

import (
	"os"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	fakeDocker(t, "nothing", "nothing")
	_, out := build(t, "--load", "--add=image_test.go=/x")
	calls, err := os.ReadFile(os.Getenv("CALLS"))
	if err != nil || !strings.Contains(string(calls), "load --quiet -i ") || !strings.Contains(out, "has loaded it") {
		t.Errorf("Docker was called with\n%s\nand the output is\n%s", calls, out)
	}
	t.Setenv("PATH", t.TempDir())
	if _, out := build(t, "--load", "--add=image_test.go=/x"); !strings.Contains(out, "docker load -i") {
		t.Errorf("without Docker the output does not say how to load the image:\n%s", out)
	}
}
