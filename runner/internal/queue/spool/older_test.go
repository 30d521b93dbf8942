package spool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// olderMain is a process of before.
const olderMain = `package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

func main() {
	runner := ""
	if os.Args[1] != "submit" {
		runner = "older"
	}
	s, err := spool.Open(os.Args[2], spool.Options{Runner: runner, Rescan: 20 * time.Millisecond})
	check(err)
	switch os.Args[1] {
	case "submit":
		for _, id := range os.Args[3:] {
			_, err := s.Submit(context.Background(), []*api.Task{{ID: id, Command: "true"}})
			check(err)
		}
	case "run": // until it is killed, or has the task hold
		for {
			d, err := s.Fetch(context.Background(), func(api.Resources) bool { return true })
			check(err)
			n, err := d.Begin(nil)
			check(err)
			fmt.Println(d.Task().ID)
			if d.Task().ID == "hold" {
				select {}
			}
			results, _ := d.Local()
			made, err := results.Begin(d.Task().ID, n)
			check(err)
			_, err = d.Finish(api.Result{Task: d.Task().ID, Attempt: n, Outcome: api.Succeeded}, made)
			check(err)
		}
	}
	check(s.Close())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
`

// older builds a process of a commit of before.
func older(t *testing.T, commit string) string {
	t.Helper()
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	if exec.Command("git", "-C", root, "cat-file", "-e", commit).Run() != nil {
		t.Skipf("this checkout has no commit %s", commit)
	}
	dir := t.TempDir()
	script := `git -C "$1" archive "$2" runner/api runner/internal | tar -x && cp "$1/go.mod" "$1/go.sum" . && mkdir runner/older && cat >runner/older/main.go && go build -o older ./runner/older`
	cmd := exec.Command("sh", "-c", script, "sh", root, commit)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(olderMain)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", commit, err, out)
	}
	return filepath.Join(dir, "older")
}

// Runners and submits of before share a spool with those of now, as during a
// rolling upgrade: nothing is lost, and only what a runner held that was killed runs
// twice.
func TestRunnersOfBefore(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds programs of before")
	}
	for _, commit := range []string{"a5cef6c"} {
		t.Run(commit, func(t *testing.T) {
			t.Parallel()
			program := older(t, commit)
			dir := t.TempDir()
			s := open(t, dir, "r")
			var mu sync.Mutex
			starts := map[string]int{}
			want := map[string]int{}
			note := func(id string) {
				mu.Lock()
				defer mu.Unlock()
				starts[id]++
			}
			olderSubmits := func(ids ...string) ([]byte, error) {
				return exec.Command(program, append([]string{"submit", dir}, ids...)...).CombinedOutput()
			}
			olderRuns := func() (end func()) {
				cmd := exec.Command(program, "run", dir)
				out, err := cmd.StdoutPipe()
				if err := errors.Join(err, cmd.Start()); err != nil {
					t.Fatal(err)
				}
				read := make(chan error, 1)
				go func() {
					lines := bufio.NewScanner(out)
					for lines.Scan() {
						note(lines.Text())
					}
					read <- lines.Err()
				}()
				return func() {
					cmd.Process.Kill()
					if err := <-read; err != nil && !errors.Is(err, io.EOF) {
						t.Error(err)
					}
					cmd.Wait()
				}
			}
			ids := func(by string, n int) (all []string) {
				for i := range n {
					all = append(all, fmt.Sprint(by, i))
					want[all[i]] = 1
				}
				return all
			}

			// What one of before has submitted, it may run itself; what it holds when
			// it is killed comes to those of now, with all that it left.
			if out, err := olderSubmits(append(ids("before-", 10), "hold")...); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			end := olderRuns()
			waitFor(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return starts["hold"] == 1
			})
			same := &api.Task{ID: "hold", Command: "true"}
			if done, err := s.Submit(t.Context(), []*api.Task{same}); err != nil || done[0].Before != api.TaskRunning {
				t.Errorf("submit of what one of before runs: %+v, %v", done, err)
			}
			end()
			d := fetch(t, s, "hold")
			if n, err := d.Begin(nil); n != 2 || err != nil {
				t.Errorf("attempt %d, %v, want 2", n, err)
			}
			if err := d.Ack(); err != nil {
				t.Error(err)
			}
			note("hold")
			want["hold"] = 2

			// Both at the same time.
			ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
			defer stop()
			var running sync.WaitGroup
			running.Go(func() {
				for {
					d, err := s.Fetch(ctx, anyClass)
					if ctx.Err() != nil {
						return
					}
					if err == nil {
						_, err = d.Begin(nil)
					}
					if err == nil {
						note(d.Task().ID)
						err = d.(spool.Delivery).Ack()
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
			end = olderRuns()
			if out, err := olderSubmits(ids("older-", 30)...); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			for _, id := range ids("now-", 30) {
				submit(t, s, api.Task{ID: id})
			}
			waitFor(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(starts) >= len(want) && len(contents(t, dir).Ready) == 0 && len(contents(t, dir).Claimed) == 0
			})
			end()
			stop()
			running.Wait()
			if diff := cmp.Diff(want, starts); diff != "" {
				t.Errorf("starts by task (-want +got):\n%s", diff)
			}
			if c := contents(t, dir); len(c.Dead) > 0 {
				t.Errorf("dead %+v", c.Dead)
			}

			// An id of now is known to those of before.
			submit(t, s, api.Task{ID: "known"})
			if out, err := olderSubmits("known"); err != nil {
				t.Errorf("submit of before of a known id: %v, %s", err, out)
			}
			// And theirs for those of now, while nobody runs.
			if out, err := olderSubmits("theirs"); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if err := s.Cancel(t.Context(), "theirs"); err != nil {
				t.Error(err)
			}
			if err := s.Again(t.Context(), "theirs"); err != nil {
				t.Error(err)
			}
			fetch(t, s, "known")
			fetch(t, s, "theirs")
		})
	}
}

// waitFor returns when it is so.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came to be so")
		}
	}
}

// What a version of before kept elsewhere is not passed over in silence.
func TestTasksElsewhere(t *testing.T) {
	for _, place := range []string{"tasks", "claims/x/tasks"} {
		dir := t.TempDir()
		file := filepath.Join(dir, place, "00000000000000000001-0-0-a.json")
		put := func() {
			t.Helper()
			if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(`{"id":"a","command":"true"}`), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		put()
		if _, err := spool.Open(dir, spool.Options{}); err == nil || !strings.Contains(err.Error(), place) || strings.Contains(err.Error(), "flock") {
			t.Errorf("with a file in %s: %v, want an error that names it, and nothing of file systems", place, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		s, log := openLogged(t, dir, rescan)
		put() // by an older submit, which finds its place
		for range 2 {
			s.Tidy(60 * rescan)
			look(t, s, anyClass)
		}
		if n := strings.Count(log.String(), "is of an older version"); n != 1 {
			t.Errorf("told %d times of a file that came to %s:\n%s", n, place, log)
		}
	}
}
