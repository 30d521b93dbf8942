package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const sysroot = "/usr/aarch64-linux-gnu"

// foreignProgram compiles the test's program for ARM.
func foreignProgram(t *testing.T) string {
	t.Helper()
	gcc, err := exec.LookPath("aarch64-linux-gnu-gcc")
	if err != nil {
		t.Skip("no compiler for ARM; on Debian it is gcc-aarch64-linux-gnu")
	}
	dir := t.TempDir()
	for _, parent := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "runner")
	compile := exec.Command(gcc, "-x", "c", "-o", file, "-")
	compile.Stdin = strings.NewReader(program)
	if out, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	return file
}

func TestAnImageForAnotherProcessor(t *testing.T) {
	file := foreignProgram(t)
	image, _ := build(t, "--add="+file+"=/usr/local/bin/runner", "--entrypoint=/usr/local/bin/runner", "--sysroot="+sysroot)
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "arm64" {
		t.Errorf("the image is for %s/%s, want linux/arm64", config.OS, config.Architecture)
	}
	for _, name := range []string{"lib/ld-linux-aarch64.so.1", "lib/aarch64-linux-gnu/libc.so.6", "lib/aarch64-linux-gnu/libpthread.so.0"} {
		if contents(t, image)[name] == nil {
			t.Errorf("the image lacks /%s", name)
		}
	}
	emulator, err := exec.LookPath("qemu-aarch64")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("no emulator for ARM, or no root")
	}
	root := unpack(t, image)
	for _, parent := range []string{filepath.Dir(root), root} {
		if err := os.Chmod(parent, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command(emulator, "-L", root, filepath.Join(root, "usr/local/bin/runner"))
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "writes") {
		t.Errorf("the program in the image: %v\n%s", err, out)
	}
}

func TestOneImageIsForOneProcessor(t *testing.T) {
	file := foreignProgram(t)
	_, _, err := tryBuild(t, addProgram, "--add="+file+"=/usr/local/bin/other", "--sysroot="+sysroot)
	if err == nil || !strings.Contains(err.Error(), "one image is for one processor") {
		t.Errorf("programs of two processors give %v", err)
	}
	_, _, err = tryBuild(t, "--add="+file+"=/usr/local/bin/runner", "--sysroot=/nowhere")
	if err == nil || !strings.Contains(err.Error(), "name its --sysroot") {
		t.Errorf("a sysroot that is not there gives %v", err)
	}
}
