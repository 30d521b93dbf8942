package spool_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// fullDisk does what must work while not a byte can be written, by means of a
// limit on the size of files, and prints what went wrong.
func fullDisk(dir string) {
	signal.Ignore(unix.SIGXFSZ)
	s, err := spool.Open(dir, spool.Options{Runner: "r"})
	must(err)
	taken := map[string]spool.Delivery{}
	for range 3 {
		d, err := s.Fetch(context.Background(), anyClass)
		must(err)
		taken[d.Task().ID] = d.(spool.Delivery)
	}
	var limit unix.Rlimit
	must(unix.Getrlimit(unix.RLIMIT_FSIZE, &limit))
	must(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	for _, d := range taken {
		_, err := d.Begin(nil)
		must(err)
	}
	must(taken["release"].Release())
	_, err = taken["retry"].Retry("test")
	must(err)
	if err := taken["bury"].Bury("test"); !errors.Is(err, unix.EFBIG) {
		must(fmt.Errorf("bury gave %v, want %w", err, unix.EFBIG))
	}
	if _, err := s.SubmitOne(&api.Task{Command: "true"}); !errors.Is(err, unix.EFBIG) {
		must(fmt.Errorf("submit gave %v, want %w", err, unix.EFBIG))
	}
	must(unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	must(taken["bury"].Bury("test"))

	// Of many that are submitted together, those before the one that had no room
	// are in; the same again brings in the rest, and nothing twice.
	var many []*api.Task
	for i := range 60 {
		many = append(many, &api.Task{ID: fmt.Sprint("many-", i), Command: "true"})
	}
	many[20].Args = []string{strings.Repeat("x", 64<<10)}
	must(unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 8 << 10, Max: limit.Max}))
	done, err := s.Submit(context.Background(), many)
	if len(done) != 20 || !errors.Is(err, unix.EFBIG) || !strings.Contains(err.Error(), `"many-20"`) {
		must(fmt.Errorf("submit of many gave %d, %v, want 20 and %w", len(done), err, unix.EFBIG))
	}
	must(unix.Setrlimit(unix.RLIMIT_FSIZE, &limit))
	again, err := s.Submit(context.Background(), many)
	must(err)
	for i, d := range again {
		if d.ID != many[i].ID || (d.Before == api.TaskWaiting) != (i < 20) {
			must(fmt.Errorf("submit again gave %+v for task %d", d, i))
		}
	}
	must(s.Close())
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// catalogue: row 69
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "")
	for _, id := range []string{"release", "retry", "bury"} {
		submit(t, s, api.Task{ID: id})
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullDiskEnv+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := contents(t, dir)
	c.Ready = slices.DeleteFunc(c.Ready, func(e spool.Entry) bool { return strings.HasPrefix(e.ID, "many-") && e.Spent == 0 })
	if len(c.Ready) != 2 || c.Ready[0].ID != "release" || c.Ready[0].Spent != 0 || c.Ready[1].Spent != 1 {
		t.Errorf("ready are %+v, want release and retry, the latter with an attempt less", c.Ready)
	}
	if len(c.Dead) != 1 {
		t.Errorf("dead letters are %+v, want bury", c.Dead)
	}
	if n := globs(t, dir, "results/*") - globs(t, dir, "results/*/task.json"); n != 0 {
		t.Errorf("%d tasks are left of which there was no room for the document", n)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 || err != nil {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}
