package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	var out, problems strings.Builder
	if code := run([]string{"--help"}, &out, &problems); code != exitOK || !strings.Contains(out.String(), "controlplane") {
		t.Errorf("--help: exit code %d, stdout %q", code, out.String())
	}
	for _, args := range [][]string{{}, {"knd"}, {"kind"}, {"check", "--all"}} {
		problems.Reset()
		if code := run(args, &out, &problems); code != exitUsage || problems.Len() == 0 {
			t.Errorf("%q: exit code %d, stderr %q", args, code, problems.String())
		}
	}
}

// fakeDocker puts a docker into PATH that answers, with the code for its commands.
func fakeDocker(t *testing.T, code string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte("#!/bin/sh\n"+code), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("DOCKER_HOST", "unix:///users/docker.sock")
	t.Setenv("KIND_NODE_IMAGE", "")
}

// The command finds what it needs in its environment, and its exit code is ours.
func TestKindRunsACommand(t *testing.T) {
	fakeDocker(t, "case $1 in version | image) ;; info) echo 2 ;; *) exit 1 ;; esac\n")
	for _, c := range []struct{ given, want string }{{"", "kindest/node:"}, {"mine:v1", "mine:v1"}} {
		t.Setenv("KIND_NODE_IMAGE", c.given)
		file := filepath.Join(t.TempDir(), "environment")
		var problems strings.Builder
		code := run([]string{"kind", "--", "sh", "-c", `echo "$DOCKER_HOST $KIND_NODE_IMAGE" >"$0"; exit 7`, file}, os.Stdout, &problems)
		data, err := os.ReadFile(file)
		if code != 7 || err != nil || !strings.HasPrefix(string(data), "unix:///users/docker.sock "+c.want) {
			t.Errorf("exit code %d, environment %q, %v, stderr %q", code, data, err, problems.String())
		}
	}
}

// A command that has a cluster to delete is told of the end, and waited for.
func TestKindPassesTermOn(t *testing.T) {
	fakeDocker(t, "exit 0")
	t.Setenv("KIND_NODE_IMAGE", "mine")
	file := filepath.Join(t.TempDir(), "ready")
	code := make(chan int, 1)
	go func() {
		code <- run([]string{"kind", "--", "sh", "-c", `trap 'kill $!; exit 9' TERM; sleep 60 & : >"$0"; wait`, file}, os.Stdout, os.Stderr)
	}()
	for { // the test's own limit ends this
		if _, err := os.Stat(file); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 9 {
		t.Errorf("exit code %d", got)
	}
}

// Whatever is missing is said before the command runs, in one sentence.
func TestKindSaysWhatIsMissing(t *testing.T) {
	for _, c := range []struct{ name, docker, want string }{
		{"no daemon", "echo Cannot connect >&2; exit 1", "Cannot connect; DOCKER_HOST is"},
		{"cgroup v1", "[ $1 = info ] && echo 1; exit 0", "this machine has v1; making node images needs "},
		{"no registry", "case $1 in version | image) [ $2 != inspect ] ;; info) echo 2 ;; *) echo no such host >&2; exit 1 ;; esac",
			"no such host; making node images needs "},
	} {
		t.Run(c.name, func(t *testing.T) {
			fakeDocker(t, c.docker)
			// Of the other programs only those that the fakes need.
			bin := t.TempDir()
			for _, name := range []string{"go", "sh"} {
				for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
					if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
						_ = os.Symlink(filepath.Join(dir, name), filepath.Join(bin, name))
					}
				}
			}
			docker, _, _ := strings.Cut(os.Getenv("PATH"), string(filepath.ListSeparator))
			t.Setenv("PATH", docker+string(filepath.ListSeparator)+bin)
			var out, problems strings.Builder
			code := run([]string{"kind", "--", "touch", "x"}, &out, &problems)
			if text := problems.String(); code != exitFailed || !strings.Contains(text, c.want) {
				t.Errorf("exit code %d, stderr %q", code, text)
			}
		})
	}
}
