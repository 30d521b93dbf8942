package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/task"
)

// oneAttempt is a store with an attempt whose files are in dir.
type oneAttempt struct {
	queue.Store
	dir string
	end *api.Result
}

func (o *oneAttempt) Results(context.Context, string) ([]api.Result, error) {
	if o.end == nil {
		return nil, nil
	}
	return []api.Result{*o.end}, nil
}

func (o *oneAttempt) Files(context.Context, string, int) (queue.Files, error) {
	return struct {
		fs.FS
		io.Closer
	}{os.DirFS(o.dir), io.NopCloser(nil)}, nil
}

// Whoever follows a task that prints more than is kept sees nothing twice, and a mark
// wherever something is missing, however seldom he looks.
func TestFollowing(t *testing.T) {
	t.Parallel()
	marks := 0
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 14))
			dir := t.TempDir()
			orders := filepath.Join(t.TempDir(), "orders")
			if err := unix.Mkfifo(orders, 0o600); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			ends := make(chan api.Result, 1)
			go func() {
				ends <- task.Run(t.Context(), context.Background(), task.Spec{
					Task:    &api.Task{ID: "a", Command: "sh", Args: []string{"-c", `while read from to; do seq $from $to; done <"$0"`, orders}},
					Attempt: 1, Dir: dir, Stdout: filepath.Join(dir, "stdout"), Stderr: filepath.Join(dir, "stderr"), Parts: root,
					OutputLimit: 4000, KillDelay: time.Second, Environ: os.Environ(),
				})
			}()
			tell, err := os.OpenFile(orders, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			store := &oneAttempt{dir: dir}
			var out bytes.Buffer
			f := newFollower(store, stdio{Out: &out, Err: io.Discard}, "a", 1)
			const step = 100
			number := 0
			for range 30 {
				n := 1 + r.IntN(3*step)
				fmt.Fprintln(tell, number+1, number+n)
				number += n
				if r.IntN(3) == 0 {
					continue // he looks elsewhere
				}
				last := fmt.Sprintf("\n%d\n", number)
				for deadline := time.Now().Add(20 * time.Second); !strings.HasSuffix(out.String(), last); {
					if _, err := f.next(t.Context()); err != nil || time.Now().After(deadline) {
						t.Fatalf("error %v; the last lines are %q, want %q", err, out.String()[max(0, out.Len()-100):], last)
					}
				}
			}
			if seed%2 == 0 { // more than is kept of the end
				fmt.Fprintln(tell, number+1, number+1000)
				number += 1000
			}
			tell.Close()
			select {
			case end := <-ends:
				store.end = &end
			case <-time.After(2 * time.Minute):
				all, _ := exec.Command("ps", "-eo", "pid,ppid,stat,wchan:24,args").Output()
				t.Fatalf("the task has not ended; what runs:\n%s", all)
			}
			if _, err := f.next(t.Context()); err != nil {
				t.Fatal(err)
			}
			marks += checkFollowed(t, out.String(), number)
		})
	}
	if marks == 0 {
		t.Error("nobody ever looked so seldom that something was missing")
	}
}

// The parts are put together while somebody looks.
func TestFollowingAtTheEnd(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(api.OutputPart("stdout", 4, 5), "tail")
	put(api.OutputPart("stdout", 4, 9), " and more")
	store := &oneAttempt{dir: dir}
	var out bytes.Buffer
	f := newFollower(store, stdio{Out: &out, Err: io.Discard}, "a", 1)
	const mark = "\n… 5 bytes left out …\n"
	for _, whole := range []string{"head", "head" + mark, "head" + mark + "ta", "head" + mark + "tail and more"} {
		put("stdout", whole)
		if strings.HasSuffix(whole, "more") {
			store.end = &api.Result{Attempt: 1, StdoutLeftOut: 5}
		}
		if _, err := f.next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := "head" + mark + "tail and more"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
	out.Reset()
	os.Remove(filepath.Join(dir, api.OutputPart("stdout", 4, 5)))
	late := newFollower(&oneAttempt{dir: dir}, stdio{Out: &out, Err: io.Discard}, "a", 1)
	if _, err := late.next(t.Context()); err != nil || out.String() != "head\n… 9 bytes left out …\n and more" {
		t.Errorf("who comes in the middle of it sees %q, error %v", out.String(), err)
	}
}

// Nobody has put together the parts of an attempt that died with its runner.
func TestLogsOfOneThatDied(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"stdout": "head", api.OutputPart("stdout", 4, 0): " more", api.OutputPart("stdout", 4, 9): "tail"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	f := newFollower(&oneAttempt{dir: dir, end: &api.Result{Attempt: 1, Outcome: api.MachineFailed}}, stdio{Out: &out, Err: io.Discard}, "a", 1)
	if _, err := f.next(t.Context()); err != nil || out.String() != "head more\n… 4 bytes left out …\ntail" {
		t.Errorf("printed %q, error %v", out.String(), err)
	}
}

// checkFollowed wants all numbers in order, with a mark where some are missing. A part
// may begin in the middle of a line.
func checkFollowed(t *testing.T, text string, last int) (marks int) {
	t.Helper()
	pieces := strings.Split(text, "\n… ")
	seen := 0
	for i, piece := range pieces {
		if i > 0 {
			_, after, ok := strings.Cut(piece, " left out …\n")
			if !ok {
				t.Fatalf("no whole mark in %q", piece[:min(50, len(piece))])
			}
			piece = after
		}
		lines := strings.Split(piece, "\n")
		for j, line := range lines {
			n, err := strconv.Atoi(line)
			cut := i > 0 && j == 0 || j == len(lines)-1 // beside a mark, or the end
			switch {
			case cut && i < len(pieces)-1 || cut && j == 0:
				continue
			case line == "" && j == len(lines)-1:
			case err != nil || n <= seen || (j > 1 || i == 0 && j > 0) && n != seen+1:
				t.Fatalf("%q follows %d", line, seen)
			default:
				seen = n
			}
		}
	}
	if seen != last {
		t.Errorf("the last is %d, want %d", seen, last)
	}
	return len(pieces) - 1
}
