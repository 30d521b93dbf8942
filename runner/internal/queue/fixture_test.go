package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/queue/postgres"
	"github.com/studioml/studio-go-runner/runner/internal/queue/spool"
)

// These keep the tests short. A lease is long beside what a statement takes on a busy
// machine.
const (
	rescan = 20 * time.Millisecond
	lease  = 3 * time.Second
	brief  = lease / 6 // of who dies at once, so that nobody looks before that
)

// These make the test binary a runner of the queue that they name.
const (
	doomedEnv = "QUEUE_TEST_DOOMED"
	beginEnv  = "QUEUE_TEST_BEGIN"
	leaseEnv  = "QUEUE_TEST_LEASE"
)

func TestMain(m *testing.M) {
	if where := os.Getenv(doomedEnv); where != "" {
		fmt.Println(doomed(where))
		os.Exit(1)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "16"); err != nil { // they wait, mostly
		panic(err)
	}
	os.Exit(m.Run())
}

// doomed fetches one task, begins it if it is told to, and waits to be killed: at
// the latest by the end of the tests, which hold its input open.
func doomed(where string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	lease, _ := time.ParseDuration(os.Getenv(leaseEnv))
	q, err := connect(where, "doomed", os.TempDir(), lease, nil)
	if err != nil {
		return err
	}
	d, err := q.Fetch(ctx, anyClass)
	if err != nil {
		return err
	}
	attempt := 0
	if os.Getenv(beginEnv) != "" {
		if attempt, err = d.Begin([]string{"GPU-1"}); err != nil {
			return err
		}
		results, _ := d.Local()
		made, err := results.Begin(d.Task().ID, attempt)
		if err == nil {
			err = os.WriteFile(made.Stdout(), []byte("last words"), 0o644)
		}
		if err != nil {
			return err
		}
	}
	fmt.Println(d.Task().ID, attempt)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// connection is a runner's or an owner's.
type connection interface {
	queue.Queue
	queue.Store
	Length(context.Context) (map[api.TaskState]int, error)
	// Close ends it in good order.
	Close() error
}

// connect opens a queue by its directory or URL.
func connect(where, runner, work string, lease time.Duration, log *slog.Logger) (connection, error) {
	if strings.HasPrefix(where, "postgres:") {
		return postgres.Open(where, postgres.Options{Runner: runner, Work: work, Lease: lease, Limit: patience, Look: lease / 5, Log: log})
	}
	return spool.Open(where, spool.Options{Runner: runner, Rescan: rescan, Log: log})
}

// place is a queue by its directory or URL, with one of its owners.
type place struct {
	where string
	owner connection
}

func newPlace(t *testing.T, where string) place { return place{where, open(t, where, "")} }

func open(t *testing.T, where, runner string) connection {
	t.Helper()
	c, err := connect(where, runner, t.TempDir(), lease, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ok(t, "open", err)
	t.Cleanup(func() { c.Close() })
	return c
}

func (p place) Consumer(t *testing.T) connection { return open(t, p.where, "runner") }

func (p place) Store(t *testing.T) queue.Store { return p.owner }

func (p place) Submit(t *testing.T, task *api.Task) {
	t.Helper()
	_, err := p.owner.Submit(t.Context(), []*api.Task{task})
	ok(t, "submit", err)
}

func (p place) Doomed(t *testing.T, id string, attempt int, lease time.Duration) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), doomedEnv+"="+p.where, leaseEnv+"="+lease.String(), "TMPDIR="+t.TempDir())
	if attempt > 0 {
		cmd.Env = append(cmd.Env, beginEnv+"=true")
	}
	out, err1 := cmd.StdoutPipe()
	_, err2 := cmd.StdinPipe()
	ok(t, "start", errors.Join(err1, err2, cmd.Start()))
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait() // the locks are dropped by then
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if want := fmt.Sprintln(id, attempt); line != want {
		t.Fatalf("the other runner says %q (%v), want %q", line, err, want)
	}
	return kill
}

// directory is a queue in one.
type directory struct {
	place
	dropped int
}

func newDirectory(t *testing.T) fixture { return &directory{place: newPlace(t, t.TempDir())} }

// SubmitDocument puts a file into a bucket, in one step.
func (d *directory) SubmitDocument(t *testing.T, document []byte) {
	t.Helper()
	d.dropped++
	made := filepath.Join(d.where, "tmp", "drop")
	bucket := filepath.Join(d.where, "ready", "10-0000000000000001-0-0-0")
	name := fmt.Sprintf("10-0000000000000001-0-%016d-0-0-0-0-0-0-document-%d.json", d.dropped, d.dropped)
	ok(t, "drop", errors.Join(os.MkdirAll(bucket, 0o755), os.WriteFile(made, document, 0o644), os.Rename(made, filepath.Join(bucket, name))))
}

func (d *directory) Dead(t *testing.T) (letters []api.DeadLetter) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(d.where, "dead", "*.json"))
	ok(t, "list", err)
	for _, name := range names {
		var letter api.DeadLetter
		text, err := os.ReadFile(name)
		ok(t, "read", err)
		ok(t, name, json.Unmarshal(text, &letter))
		letters = append(letters, letter)
	}
	return letters
}

// database is a queue in one.
type database struct {
	place
	name   string
	server *pgserver.Server
}

var databases atomic.Int64

func newDatabase(t *testing.T, on *pgserver.Server) fixture {
	name := fmt.Sprintf("queue%d", databases.Add(1))
	url, err := on.Database(t.Context(), name)
	ok(t, "create database", err)
	_, _, err = postgres.Init(t.Context(), url)
	ok(t, "init", err)
	return database{newPlace(t, url), name, on}
}

func (d database) SubmitDocument(t *testing.T, document []byte) {
	t.Helper()
	ok(t, "insert", d.server.Exec(t.Context(), d.name,
		fmt.Sprintf(`insert into studioml.task (id, document, gpus, gpu_memory) values ('document-' || gen_random_uuid(), '\x%x', 0, 0)`, document)))
}

// Dead adds the documents of those that are no tasks.
func (d database) Dead(t *testing.T) (letters []api.DeadLetter) {
	t.Helper()
	tasks, err := d.owner.List(t.Context())
	ok(t, "list", err)
	for _, task := range tasks {
		if task.State != api.TaskDead {
			continue
		}
		letter := api.DeadLetter{Task: task.Task, Reason: task.Reason, Attempts: task.Spent, Time: task.Since}
		if task.Task == nil {
			var document []byte
			ok(t, "read", d.server.Query(t.Context(), d.name, `select document from studioml.task where id = '`+task.ID+`'`, &document))
			letter.Document = string(document[:min(len(document), api.MaxTaskBytes)])
		}
		letters = append(letters, letter)
	}
	return letters
}
