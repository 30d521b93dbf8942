package main

import (
	"bufio"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
)

// servers has the one for queues that tests share which do not stop it, once one of
// them has asked for it.
var servers = struct {
	sync.Mutex
	shared *pgserver.Server
}{}

func queueServer(t *testing.T) *pgserver.Server {
	t.Helper()
	if testing.Short() {
		t.Skip("starts PostgreSQL")
	}
	servers.Lock()
	defer servers.Unlock()
	if servers.shared == nil {
		var err error
		if servers.shared, err = pgserver.Start(pgserver.Hasty); err != nil {
			t.Fatal(err)
		}
	}
	return servers.shared
}

var databases atomic.Int32

// newDatabase makes one on a server, of a name that no other has.
func newDatabase(t *testing.T, server *pgserver.Server) (name, place string) {
	t.Helper()
	name = fmt.Sprintf("queue%d", databases.Add(1))
	place, err := server.Database(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return name, place
}

func closeServers() error {
	if servers.shared == nil {
		return nil
	}
	return servers.shared.Close()
}

// A runner with its queue in a server runs what is submitted there, gives back what
// it has when it has to end, and shows its password nowhere.
func TestQueueInServer(t *testing.T) {
	t.Parallel()
	server := queueServer(t)
	name, place := newDatabase(t, server)
	const password = "hunter2"
	with, _ := url.Parse(place)
	with.User = url.UserPassword(with.User.Username(), password)
	variable := "STUDIOML_QUEUE=" + with.String()
	command := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command("runner", args...)
		cmd.Stdin, cmd.Env = strings.NewReader(stdin), append(os.Environ(), variable)
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
	p, log := startIn(t, t.TempDir(), "", "env", variable, "runner", "serve", "--grace-period", "0s")
	p.until("/statusz", `"b"`)
	shown := p.ask("/statusz") + p.ask("/metrics")
	if !strings.Contains(shown, "studioml_runner_queue_failures_total 0") {
		t.Error("the metrics of the queue are missing")
	}
	cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.Process.Pid))
	p.send(syscall.SIGTERM)
	p.wantExit(10, time.Minute)
	said, _ := io.ReadAll(log)
	if strings.Contains(shown+string(cmdline)+string(said), password) {
		t.Errorf("the password is shown:\n%s\n%s\n%s", cmdline, shown, said)
	}
	var states, env string
	if err := server.Query(t.Context(), name, `select string_agg(id || ' ' || state || ' ' || spent, ', ' order by id) from studioml.task`, &states); err != nil {
		t.Fatal(err)
	}
	if want := "a Finished 0, b Waiting 0"; states != want {
		t.Errorf("tasks are %s, want %s", states, want)
	}
	if err := server.Query(t.Context(), name, `select convert_from(data, 'UTF8') from studioml.file f join studioml.result r using (claim) where task = 'a' and name = 'stdout'`, &env); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(env, "STUDIOML_TASK_ID=a") || strings.Contains(env, password) {
		t.Errorf("the task's output is\n%s", env)
	}
}

// Who waits for a task goes on to wait, and misses nothing, while the server is away.
func TestWaitThroughOutage(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts PostgreSQL")
	}
	server, err := pgserver.Start(pgserver.Hasty) // which it stops
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	_, place := newDatabase(t, server)
	variable := "STUDIOML_QUEUE=" + place
	if out, err := exec.Command("env", variable, "runner", "queue", "init").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	startIn(t, t.TempDir(), "", "env", variable, "runner", "serve")
	waits := []*exec.Cmd{
		exec.CommandContext(t.Context(), "env", variable, "runner", "submit", "--wait", "--id", "long", "--", "sh", "-c", `echo begin; until [ -e "$0" ]; do sleep 0.1; done; echo end`, filepath.Join(t.TempDir(), "go")),
		exec.CommandContext(t.Context(), "env", variable, "runner", "logs", "-f", "long"),
		exec.CommandContext(t.Context(), "env", variable, "runner", "tasks", "--watch", "-o", "json", "long"),
	}
	begins, wants := []string{"long\nbegin\n", "begin\n", `"state":"Running"`}, []string{"long\nbegin\nend\n", "begin\nend\n", `"state":"Finished"`}
	var outs, errs []*bufio.Reader
	until := func(r *bufio.Reader, want string) (said string) {
		for !strings.Contains(said, want) {
			line, err := r.ReadString('\n')
			if said += line; err != nil {
				t.Fatalf("%v after %q, want %q", err, said, want)
			}
		}
		return said
	}
	var said []string
	for i, cmd := range waits {
		out, _ := cmd.StdoutPipe()
		errOut, _ := cmd.StderrPipe()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		outs, errs = append(outs, bufio.NewReader(out)), append(errs, bufio.NewReader(errOut))
		said = append(said, until(outs[i], begins[i]))
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, r := range errs {
		until(r, "asking again until it answers")
	}
	if err := os.WriteFile(waits[0].Args[len(waits[0].Args)-1], nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for i, cmd := range waits {
		rest, _ := io.ReadAll(outs[i])
		if err := cmd.Wait(); err != nil || !strings.HasSuffix(said[i]+string(rest), wants[i]) && !strings.Contains(string(rest), wants[i]) {
			t.Errorf("%s: %v, and has said %q; want the end %q", cmd.Args, err, said[i]+string(rest), wants[i])
		}
	}
}

// Who may not use a queue is told whose it is.
func TestWhoseQueue(t *testing.T) {
	t.Parallel()
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
	another := func(args ...string) (string, error) {
		cmd := exec.Command(copied, append(args[:1:1], append([]string{"--spool", spool}, args[1:]...)...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 54321, Gid: 54321}}
		cmd.Env = []string{"HOME=" + dir, "STUDIOML_NVML_LIBRARY=none"}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	refused := func(args ...string) {
		t.Helper()
		const want = "; the queue belongs to the user root: do this as that user"
		if out, err := another(args...); err == nil || !strings.Contains(out, "permission denied") || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %s; want %q", args[0], err, out, want)
		}
	}
	if out, err := another("tasks"); err != nil || !strings.Contains(out, "Waiting") {
		t.Errorf("others may look: %v, %s", err, out)
	}
	refused("submit", "--", "true")
	refused("cancel", "a")
	refused("serve", "--listen", "127.0.0.1:0")
	// What may not be looked into may have other files.
	blind := filepath.Join(dir, "blind")
	serve := exec.Command("runner", "serve", "--spool", spool, "--listen", "127.0.0.1:0", "--max-tasks", "1", "--nvml-library", "none")
	serve.Env = append(os.Environ(), "KUBECONFIG=", "HOME="+dir)
	for _, err := range []error{serve.Run(), os.Mkdir(blind, 0o300), os.Chown(blind, 54321, 54321)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if out, err := another("get", "a", blind); err == nil || !strings.Contains(out, "blind: permission denied; name a directory that does not exist yet, or is empty") {
		t.Errorf("get into a directory that cannot be read: %v, %s", err, out)
	}
	for _, sub := range []string{"ready", "results"} { // as with a umask of 077
		if err := os.Chmod(filepath.Join(spool, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	refused("tasks")
}
