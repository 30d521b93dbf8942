package spool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// These make the test binary a process that works on the spool they name.
const (
	holderEnv   = "SPOOL_TEST_HOLDER"
	fullDiskEnv = "SPOOL_TEST_FULL_DISK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(holderEnv); dir != "" {
		holder(dir)
	}
	if dir := os.Getenv(fullDiskEnv); dir != "" {
		fullDisk(dir)
	}
	if dir := os.Getenv(cycleEnv); dir != "" {
		cycle(dir)
	}
	if dir := os.Getenv(againEnv); dir != "" {
		again(dir)
	}
	// Together they take two or three minutes; a lock or a process that is never released would
	// hold them up for ten minutes.
	time.AfterFunc(8*time.Minute, func() { panic("the tests hang") })
	os.Exit(m.Run())
}

// holder takes one task, begins it, and waits to be killed.
func holder(dir string) {
	s, err := spool.Open(dir, spool.Options{Runner: "child"})
	must(err)
	d, err := s.Fetch(context.Background(), anyClass)
	must(err)
	_, err = d.Begin(nil)
	must(err)
	fmt.Println(d.Task().ID)
	select {}
}

// startChild returns a process that holds the first task of the spool.
func startChild(t *testing.T, dir, wantTask string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) != wantTask {
		t.Fatalf("child says %q (%v), want that it holds %s", line, err, wantTask)
	}
	return cmd
}

func TestKilledRunner(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, "parent")
	submit(t, s, api.Task{ID: "a"})
	submit(t, s, api.Task{ID: "b"})
	child := startChild(t, dir, "a")
	if c := contents(t, dir); len(c.Claimed) != 1 || c.Claimed[0].Runner != "child" {
		t.Fatalf("claimed are %+v, want a by child", c.Claimed)
	}
	b := fetch(t, s, "b") // and not a, whose owner lives

	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a := fetch(t, s, "a")
	if attempt, err := a.Begin(nil); attempt != 2 || err != nil {
		t.Errorf("begin gave %d, %v; want attempt 2", attempt, err)
	}
	if err := errors.Join(a.Ack(), b.Ack()); err != nil {
		t.Error(err)
	}
	owners, err := filepath.Glob(filepath.Join(dir, "held", "*.lock"))
	if err != nil || len(owners) == 0 {
		t.Errorf("claims are %v (%v), want our own", owners, err)
	}
	for _, file := range owners {
		if owner, err := os.ReadFile(file); string(owner) != "parent\n" {
			t.Errorf("claim of %q (%v), want only our own", owner, err)
		}
	}
}

// What is unfinished dies with the claim.
func TestWorkIsRemoved(t *testing.T) {
	dir := t.TempDir()
	crashed := open(t, dir, "crashed")
	submit(t, crashed, api.Task{ID: "a"})
	work, _ := fetch(t, crashed, "a").Work()
	if err := os.WriteFile(filepath.Join(work, "stdout"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	crashed.Crash()
	open(t, dir, "other")
	if _, err := os.Stat(work); !os.IsNotExist(err) {
		t.Errorf("work directory of a dead runner: %v, want it gone", err)
	}
}

// A task can remove all that is of its attempt, and more. Whoever holds the claim is
// known all the same.
func TestAllOfTheAttemptIsRemoved(t *testing.T) {
	dir := t.TempDir()
	crashed, other := open(t, dir, "crashed"), open(t, dir, "other")
	submit(t, other, api.Task{ID: "a"})
	submit(t, other, api.Task{ID: "b"})
	for _, id := range []string{"a", "b"} {
		work, _ := fetch(t, crashed, id).Work()
		if err := os.RemoveAll(filepath.Dir(work)); err != nil {
			t.Fatal(err)
		}
	}
	submit(t, other, api.Task{ID: "c"})
	fetch(t, other, "c") // after a look at the claims of the other
	if c := contents(t, dir); len(c.Claimed) != 3 || len(c.Ready) != 0 {
		t.Errorf("claimed are %+v and ready %+v, want all claimed by those who live", c.Claimed, c.Ready)
	}
	crashed.Crash()
	fetch(t, other, "a")
	fetch(t, other, "b")
}

// A task can even remove all of its claim. It is not lost, and settling it does not
// fail for ever.
func TestTheClaimIsDestroyed(t *testing.T) {
	for name, destroy := range map[string]func(claim string) error{
		"all in it": func(claim string) error {
			all, err := filepath.Glob(filepath.Join(claim, "*"))
			for _, path := range all {
				err = errors.Join(err, os.RemoveAll(path))
			}
			return err
		},
		"itself": os.RemoveAll,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, "r")
			for _, id := range []string{"ack", "release", "retry", "bury"} {
				submit(t, s, api.Task{ID: id})
			}
			taken := map[string]spool.Delivery{}
			for _, id := range []string{"ack", "release", "retry", "bury"} {
				d := fetch(t, s, id)
				if _, err := d.Begin(nil); err != nil {
					t.Fatal(err)
				}
				work, _ := d.Work()
				if err := destroy(filepath.Dir(work)); err != nil {
					t.Fatal(err)
				}
				taken[id] = d
			}
			_, err := taken["retry"].Retry("test")
			if err := errors.Join(err, taken["ack"].Ack(), taken["release"].Release(), taken["bury"].Bury("test")); err != nil {
				t.Error(err)
			}
			if c := contents(t, dir); len(c.Ready) != 2 || len(c.Dead) != 1 {
				t.Errorf("ready are %+v and dead %+v, want release and retry, and bury", c.Ready, c.Dead)
			}
			again := fetch(t, s, "release")
			if attempt, err := again.Begin(nil); attempt != 2 || err != nil {
				t.Errorf("begin gave %d, %v; want attempt 2", attempt, err)
			}
			// Nor by a runner that ends before it is settled.
			work, _ := again.Work()
			if err := errors.Join(destroy(filepath.Dir(work)), s.Close()); err != nil {
				t.Error(err)
			}
			if c := contents(t, dir); len(c.Ready) != 2 || len(c.Claimed) != 0 {
				t.Errorf("at the end ready are %+v and claimed %+v, want both tasks ready", c.Ready, c.Claimed)
			}
		})
	}
}

// A claim goes on after the runner for as long as a process of the attempt lives,
// and keeps no other task.
func TestAnAttemptOutlivesItsRunner(t *testing.T) {
	for name, end := range map[string]func(*spool.Spool) error{
		"crash": func(s *spool.Spool) error { s.Crash(); return nil }, "close": (*spool.Spool).Close,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, log := openLogged(t, dir, rescan)
			other := open(t, dir, "other")
			submit(t, other, api.Task{ID: "lives"})
			submit(t, other, api.Task{ID: "gone"})
			lives, gone := fetch(t, s, "lives"), fetch(t, s, "gone")
			for _, d := range []spool.Delivery{lives, gone} {
				if _, err := d.Begin(nil); err != nil {
					t.Fatal(err)
				}
			}
			attempt := exec.Command("sleep", "1000")
			_, attempt.ExtraFiles = lives.Work()
			if err := attempt.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				attempt.Process.Kill()
				attempt.Wait()
			})
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			if name == "close" {
				wantLog(t, log, `level=WARN msg="a task stays claimed, because its attempt has not ended" task=lives`)
			}
			fetch(t, other, "gone")
			if c := contents(t, dir); len(c.Claimed) != 2 || len(c.Ready) != 0 {
				t.Errorf("claimed are %+v and ready %+v, want the living one claimed", c.Claimed, c.Ready)
			}
			if err := attempt.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			attempt.Wait()
			if attempt, err := fetch(t, other, "lives").Begin(nil); attempt != 2 || err != nil {
				t.Errorf("begin gave %d, %v; want attempt 2", attempt, err)
			}
		})
	}
}

// A process that the runner has started, and that outlives it, holds no claim.
func TestLockIsNotInherited(t *testing.T) {
	dir := t.TempDir()
	crashed, other := open(t, dir, "crashed"), open(t, dir, "other")
	submit(t, other, api.Task{ID: "a"})
	fetch(t, crashed, "a")
	survivor := exec.Command("sleep", "1000")
	if err := survivor.Start(); err != nil {
		t.Fatal(err)
	}
	defer survivor.Wait()
	defer survivor.Process.Kill()
	crashed.Crash()
	fetch(t, other, "a")
}

// A runner that lives keeps its task through the rescans of another. That one
// has looked, because it finds the task of a third, which crashed later.
func TestLivingRunnerIsNotRobbed(t *testing.T) {
	dir := t.TempDir()
	living, crashed, other := open(t, dir, "living"), open(t, dir, "crashed"), open(t, dir, "other")
	submit(t, other, api.Task{ID: "a"})
	submit(t, other, api.Task{ID: "b"})
	d := fetch(t, living, "a")
	fetch(t, crashed, "b")
	crashed.Crash()
	fetch(t, other, "b")
	if c := contents(t, dir); len(c.Claimed) != 2 {
		t.Errorf("claimed are %+v, want a and b", c.Claimed)
	}
	if err := d.Ack(); err != nil {
		t.Error(err)
	}
}

// Many runners that find the same dead one at the same time bring its tasks
// back once.
func TestReclaimRace(t *testing.T) {
	dir := t.TempDir()
	crashed := open(t, dir, "crashed")
	const tasks = 10
	for i := range tasks {
		submit(t, crashed, api.Task{ID: fmt.Sprint("t", i)})
	}
	for i := range tasks {
		fetch(t, crashed, fmt.Sprint("t", i))
	}
	crashed.Crash()
	opened := make(chan error)
	for range 8 {
		go func() {
			s, err := spool.Open(dir, spool.Options{Runner: "r"})
			if err == nil {
				err = s.Close()
			}
			opened <- err
		}()
	}
	for range 8 {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
	open(t, dir, "last")
	if c := contents(t, dir); len(c.Ready) != tasks || len(c.Claimed) != 0 {
		t.Errorf("%d tasks are ready and %d claimed, want %d and 0", len(c.Ready), len(c.Claimed), tasks)
	}
}
