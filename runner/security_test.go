package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A task tries what SECURITY.md says that it cannot do: it has the runner's user,
// as in a pod.
func TestWhatATaskMayNot(t *testing.T) {
	t.Parallel()
	p := startAsUser(t, "PGPASSWORD=hidden-word", "STUDIOML_TERMINATION_LOG=/dev/null", "WORD=seen-word")
	for id, test := range map[string]struct {
		script       string
		wants, never []string
	}{
		"traces": {
			`sleep 60 & cat /proc/$!/environ | tr '\0' '\n'
			for p in $PPID $(cut -d ' ' -f 4 /proc/$PPID/stat); do cat /proc/$p/environ; ls /proc/$p/fd; head -c 1 /proc/$p/mem; readlink /proc/$p/exe || echo none; done 2>&1`,
			append([]string{"WORD=seen-word"}, strings.Split(strings.Repeat("environ: Permission denied;fd': Permission denied;mem' for reading: Permission denied;none;", 2), ";")...),
			[]string{"hidden-word"},
		},
		"environment": {"env", []string{"WORD=seen-word"}, []string{"hidden-word", "STUDIOML_TERMINATION_LOG"}},
		"terminal":    {`test "$(cut -d ' ' -f 6 /proc/$$/stat)" = $PPID && echo a session of its own, without any`, []string{"a session of its own"}, nil},
		// Some may be the first to run, before their supervisor goes on.
		"first": {"exec cat /proc/$PPID/environ 2>&1", []string{"environ: Permission denied"}, []string{"WORD"}},
	} {
		p.submit(fmt.Sprintf("{id: %s, command: sh, args: [-c, %q]}", id, strings.ReplaceAll(test.script, "\n\t\t\t", "\n")))
		path := filepath.Join(p.spool, "results", id, "1", "stdout")
		text := p.written(path)
		rest := text
		for _, want := range test.wants {
			_, after, ok := strings.Cut(rest, want)
			if !ok {
				t.Errorf("%s: no %q, in this place, in\n%s", id, want, text)
			}
			rest = after
		}
		for _, never := range test.never {
			if strings.Contains(text, never) {
				t.Errorf("%s: %q in\n%s", id, never, text)
			}
		}
	}
	p.send(syscall.SIGTERM)
	p.wantExit(143, time.Minute)
}

// startAsUser starts a runner of a user who has nothing but a directory, with
// variables in its environment.
func startAsUser(t *testing.T, variables ...string) *process {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	bin := t.TempDir()
	program, err := exec.LookPath("runner")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{exec.Command("cp", "-L", program, filepath.Join(bin, "runner")).Run(), os.Chmod(filepath.Dir(bin), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	through := []string{"sh", "-c", `chmod 755 "$TMPDIR/.." && chown 54321:54321 "$TMPDIR" && exec "$@"`, "sh",
		"setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "env", "PATH=" + bin + ":" + os.Getenv("PATH")}
	p, log := start(t, append(through, variables...)...)
	drain(log)
	return p
}

// written waits for a file.
func (p *process) written(path string) string {
	p.Helper()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err == nil {
			return string(text)
		}
		if time.Now().After(limit) {
			p.Fatal(err)
		}
	}
}
