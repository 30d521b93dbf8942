package main

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// A runner with its queue in a server runs what is submitted there, gives back what
// it has when it has to end, and shows its password nowhere.
func TestQueueInServer(t *testing.T) {
	server, err := pgserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	place, err := server.Database(t.Context(), "tasks")
	if err != nil {
		t.Fatal(err)
	}
	const password = "hunter2"
	with, _ := url.Parse(place)
	with.User = url.UserPassword(with.User.Username(), password)
	t.Setenv("STUDIOML_QUEUE", with.String())
	command := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("runner", args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if said := command("", "queue", "init"); !strings.Contains(said, "is ready") || strings.Contains(said, password) {
		t.Errorf("queue init says %s", said)
	}
	if said := command("{id: a, command: env}\n---\n{id: b, command: sleep, args: ['1000']}", "submit"); said != "a\nb\n" {
		t.Errorf("submit says %q", said)
	}
	p, log := startIn(t, t.TempDir(), "", "runner", "serve", "--grace-period", "0s")
	p.until("/statusz", `"b"`)
	shown := p.ask("/statusz") + p.ask("/metrics")
	if !strings.Contains(shown, "studioml_runner_queue_failures_total 0") {
		t.Error("the metrics of the queue are missing")
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid))
	p.send(syscall.SIGTERM)
	p.wantExit(10, 30*time.Second)
	said, _ := io.ReadAll(log)
	if strings.Contains(shown+string(cmdline)+string(said), password) {
		t.Errorf("the password is shown:\n%s\n%s\n%s", cmdline, shown, said)
	}
	var states, env string
	if err := server.Query(t.Context(), "tasks", `select string_agg(id || ' ' || state || ' ' || spent, ', ' order by id) from studioml.task`, &states); err != nil {
		t.Fatal(err)
	}
	if want := "a Finished 0, b Waiting 0"; states != want {
		t.Errorf("tasks are %s, want %s", states, want)
	}
	if err := server.Query(t.Context(), "tasks", `select convert_from(data, 'UTF8') from studioml.file f join studioml.result r using (claim) where task = 'a' and name = 'stdout'`, &env); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(env, "STUDIOML_TASK_ID=a") || strings.Contains(env, password) {
		t.Errorf("the task's output is\n%s", env)
	}
}

// Who may not use a queue is told whose it is.
func TestWhoseQueue(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir := t.TempDir()
	program, err := exec.LookPath("runner")
	if err != nil {
		t.Fatal(err)
	}
	spool, copied := filepath.Join(dir, "spool"), filepath.Join(dir, "runner")
	for _, err := range []error{
		exec.Command("runner", "submit", "--spool", spool, "--id", "a", "--", "true").Run(),
		exec.Command("cp", "-L", program, copied).Run(), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"submit", "--spool", spool, "--", "true"}, {"cancel", "--spool", spool, "a"}} {
		cmd := exec.Command(copied, args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
		const want = "permission denied; the queue belongs to the user root: do this as that user"
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, %s; want %q", args[0], err, out, want)
		}
	}
}
