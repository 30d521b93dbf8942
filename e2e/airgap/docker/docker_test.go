package docker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/airgap/docker"
)

// fakes puts a docker into PATH that answers when the socket of its DOCKER_HOST
// is there, and otherwise fails, and a dockerd with the code given, which may use
// $socket and $pidfile. It returns the directory of the daemon.
func fakes(t *testing.T, dockerd string) string {
	t.Helper()
	dir, run := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("docker", `[ -e "${DOCKER_HOST#unix://}" ] && exit
echo 'Cannot connect to the Docker daemon' >&2
exit 1
`)
	write("dockerd", `while [ $# -gt 1 ]; do
	[ "$1" = --host ] && socket=${2#unix://}
	[ "$1" = --pidfile ] && pidfile=$2
	shift
done
`+dockerd)
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("DOCKER_HOST", "")
	t.Setenv("DOCKER_CONTEXT", "")
	return run
}

// serving is a daemon that works until it is told to end, which may be as soon as it
// answers.
const serving = `trap 'rm -f "$socket" "$pidfile"; kill $!; exit' TERM
echo $$ >"$pidfile"
echo started
: >"$socket"
sleep 60 & wait
`

func TestStartAndStop(t *testing.T) {
	run := fakes(t, serving)
	var progress strings.Builder
	first, err := docker.EnsureAt(t.Context(), run, false, &progress)
	if err != nil {
		t.Fatal(err)
	}
	second, err := docker.EnsureAt(t.Context(), run, false, &progress)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := os.Getenv("DOCKER_HOST"), "unix://"+filepath.Join(run, "docker.sock"); got != want {
		t.Errorf("the host is %q, want %q", got, want)
	}
	if text := progress.String(); strings.Count(text, "starting dockerd") != 1 || !strings.Contains(text, "another run started") {
		t.Errorf("progress is %q", text)
	}
	if err := second(); err != nil {
		t.Error(err)
	}
	if _, err := docker.Run(t.Context(), "version"); err != nil {
		t.Errorf("the one that only found the daemon stopped it: %v", err)
	}
	if err := first(); err != nil {
		t.Error(err)
	}
	if _, err := docker.Run(t.Context(), "version"); err == nil || !strings.Contains(err.Error(), "Cannot connect") {
		t.Errorf("the daemon goes on, or the error does not say why: %v", err)
	}
}

func TestKeep(t *testing.T) {
	run := fakes(t, serving)
	stop, err := docker.EnsureAt(t.Context(), run, true, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(run, "docker.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGTERM) }()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if group, err := syscall.Getpgid(pid); err != nil || group == syscall.Getpgrp() {
		t.Errorf("Ctrl-C would end it: its process group is %d, %v", group, err)
	}
	var progress strings.Builder
	if stop, err = docker.EnsureAt(t.Context(), run, false, &progress); err != nil {
		t.Fatal(err)
	}
	if text := progress.String(); !strings.Contains(text, "another run started") {
		t.Errorf("progress is %q", text)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := docker.Run(t.Context(), "version"); err != nil {
		t.Errorf("the kept daemon was stopped: %v", err)
	}
}

// One that was to be kept is not left by a start that failed: nobody knows of it.
func TestFailedStartLeavesNone(t *testing.T) {
	run := fakes(t, "trap 'rm -f \"$pidfile\"; kill $!; exit' TERM\necho $$ >\"$pidfile\"\nsleep 60 & wait\n") // it never answers
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := docker.EnsureAt(ctx, run, true, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if pid, err := os.ReadFile(filepath.Join(run, "docker.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("process %s goes on, %v", pid, err)
	}
}

// A daemon must not be left when the tests are killed.
func TestEndsWithItsProcess(t *testing.T) {
	if run := os.Getenv("TEST_DAEMON_IN"); run != "" { // this is the process that is killed
		if _, err := docker.EnsureAt(t.Context(), run, false, io.Discard); err != nil {
			t.Fatal(err)
		}
		fmt.Println("started")
		select {}
	}
	run := fakes(t, serving)
	cmd := exec.Command(os.Args[0], "-test.run=^TestEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), "TEST_DAEMON_IN="+run)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Errorf("the process said %q, %v", line, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for range 1000 { // the kernel told the daemon, which takes a moment
		if _, err := os.Stat(filepath.Join(run, "docker.pid")); errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the daemon outlives its process")
}

func TestErrorHasTheLog(t *testing.T) {
	run := fakes(t, "echo 'failed to start daemon: no iptables'\nexit 3\n")
	_, err := docker.EnsureAt(t.Context(), run, false, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "no iptables") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error is %v", err)
	}
}

func TestStartCanBeCancelled(t *testing.T) {
	run := fakes(t, "trap 'kill $!; exit' TERM\nsleep 60 & wait\n")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := docker.EnsureAt(ctx, run, false, io.Discard); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestReasons(t *testing.T) {
	fakes(t, "exit 1")
	t.Setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
	for name, ask := range map[string]func() error{
		"Usable": func() error { return docker.Usable(t.Context()) },
		"Ensure": func() error {
			_, err := docker.Ensure(t.Context(), false, io.Discard)
			return err
		},
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "Cannot connect") || !strings.Contains(err.Error(), "DOCKER_HOST is") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := docker.Usable(t.Context()); err == nil || !strings.Contains(err.Error(), "apt-get install docker.io") {
		t.Errorf("error without Docker is %v", err)
	}
}

func TestUsersDaemonComesFirst(t *testing.T) {
	run := fakes(t, "exit 1")
	socket := filepath.Join(run, "users.sock")
	if err := os.WriteFile(socket, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_HOST", "unix://"+socket)
	stop, err := docker.Ensure(t.Context(), false, io.Discard)
	if err != nil || os.Getenv("DOCKER_HOST") != "unix://"+socket {
		t.Fatalf("DOCKER_HOST is %q, %v", os.Getenv("DOCKER_HOST"), err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := docker.Usable(t.Context()); err != nil {
		t.Error(err)
	}
}

// The real one, on a machine where it can be started.
func TestRealDaemon(t *testing.T) {
	if os.Getenv("E2E_DOCKER") == "" {
		t.Skip("starts dockerd; set E2E_DOCKER=1 to run it")
	}
	stop, err := docker.Ensure(t.Context(), false, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := docker.Run(t.Context(), "info", "--format={{.Driver}} {{.DockerRootDir}} {{.DefaultRuntime}}")
	fmt.Fprintln(os.Stderr, out, err)
	if err := errors.Join(err, stop()); err != nil {
		t.Error(err)
	}
}
