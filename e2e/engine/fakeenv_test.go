package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/network"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// fakeEnv is a place in memory. Runners do what script says.
type fakeEnv struct {
	t      *testing.T
	api    *fakeAPI
	client kube.Access
	// script plays a runner's process, in a goroutine of its own.
	script func(r *fakeRunner)
	notes  *stream[targets.TaskNote]
	// journalFails is what Journal returns.
	journalFails error

	mu       sync.Mutex
	calls    []string
	contents targets.Contents
	queueErr error
	runners  map[string]int
	active   int // calls of sources that have not returned
	scripts  sync.WaitGroup
}

var (
	_ targets.Env              = (*fakeEnv)(nil)
	_ targets.APIServerControl = (*faultyEnv)(nil)
	_ targets.NetworkControl   = (*faultyEnv)(nil)
	_ targets.TokenControl     = (*faultyEnv)(nil)
	_ targets.QueueControl     = (*faultyEnv)(nil)
	_ targets.KubectlControl   = (*faultyEnv)(nil)
	_ targets.Runner           = (*fakeRunner)(nil)
)

func newFakeEnv(t *testing.T, script func(r *fakeRunner)) *fakeEnv {
	a := newFakeAPI(t)
	client, err := kube.Connect(a.config())
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEnv{t: t, api: a, client: client, script: script, notes: newStream[targets.TaskNote](), runners: make(map[string]int)}
	t.Cleanup(func() {
		e.scripts.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.active != 0 {
			t.Errorf("%d sources still run after the end", e.active)
		}
	})
	return e
}

func (e *fakeEnv) called(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, fmt.Sprintf(format, args...))
}

// source counts a call until the returned function is called.
func (e *fakeEnv) source() func() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active++
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.active--
	}
}

func (e *fakeEnv) queue(change func(*targets.Contents)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// A new copy, as a reading from a process gives one.
	c := slices.Clone(e.contents)
	change(&c)
	e.contents = c
}

// finish plays the whole life of a task on a runner.
func (e *fakeEnv) finish(id, runner string) {
	e.notes.add(targets.TaskNote{Task: id, Attempt: 1, Runner: runner})
	e.notes.add(targets.TaskNote{Task: id, Attempt: 1, Runner: runner, End: true})
	e.queue(func(c *targets.Contents) {
		*c = append(slices.DeleteFunc(*c, func(t api.TaskStatus) bool { return t.ID == id }), api.TaskStatus{ID: id, State: api.TaskFinished})
	})
}

func (e *fakeEnv) Namespace() string                         { return "here" }
func (e *fakeEnv) Elsewhere(context.Context) (string, error) { return "elsewhere", nil }
func (e *fakeEnv) Client() kube.Access                       { return e.client }
func (e *fakeEnv) Admission(context.Context) error           { e.called("admission"); return nil }
func (e *fakeEnv) Release(_ context.Context, group string) error {
	e.called("release %s", group)
	return nil
}
func (e *fakeEnv) Collect(context.Context) error { e.t.Error("unexpected Collect"); return nil }
func (e *fakeEnv) Close(context.Context) error   { e.t.Error("unexpected Close"); return nil }
func (e *fakeEnv) SetPermissions(_ context.Context, p scenario.Permissions) error {
	e.called("permissions %s", p)
	return nil
}

func (e *fakeEnv) StartRunner(_ context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	e.called("start %s", spec.Name)
	e.mu.Lock()
	e.runners[spec.Name]++
	r := &fakeRunner{env: e, name: spec.Name, nth: e.runners[spec.Name], tells: tells, signals: make(chan os.Signal, 10), live: true}
	e.mu.Unlock()
	e.scripts.Go(func() { e.script(r) })
	return r, nil
}

func (e *fakeEnv) Submit(_ context.Context, tasks []api.Task) error {
	for _, t := range tasks {
		e.queue(func(c *targets.Contents) { *c = append(*c, api.TaskStatus{ID: t.ID, State: api.TaskWaiting}) })
		e.called("submit %s %s gpus=%d", t.ID, strings.Join(t.Args, " "), t.Resources.GPUs) // what is seen here can be taken
	}
	return nil
}

func (e *fakeEnv) Queue(context.Context) (targets.Contents, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.contents, e.queueErr
}

func (e *fakeEnv) Owner(_ context.Context, command ...string) error {
	e.called("owner %s", strings.Join(command, " "))
	return nil
}

func (e *fakeEnv) TaskCommand(s scenario.Submit) (string, []string, error) {
	behaves := "{Group:%s Hold:%t Fail:%t IgnoreTerm:%t Steps:%d Lasts:%s}"
	return "task", []string{fmt.Sprintf(behaves, s.Group, s.Hold, s.Fail, s.IgnoreTerm, s.Steps, s.Lasts)}, nil
}

func (e *fakeEnv) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	defer e.source()()
	if e.journalFails != nil {
		return e.journalFails
	}
	return e.notes.follow(ctx, each)
}

// faultyEnv can do all that scenarios may need.
type faultyEnv struct{ *fakeEnv }

func (e faultyEnv) StopAPIServer(context.Context) error {
	e.called("apiserver stop")
	e.api.stop()
	return nil
}

func (e faultyEnv) StartAPIServer(context.Context) error {
	e.called("apiserver start")
	e.api.start()
	return nil
}

func (e faultyEnv) SetNetwork(n network.Fault) error {
	e.called("network %+v", n)
	return nil
}
func (e faultyEnv) SetToken(_ context.Context, what scenario.Token) error {
	e.called("token %s", what)
	return nil
}
func (e faultyEnv) Kubectl(_ context.Context, line string) (string, error) {
	e.called("kubectl %s", line)
	if line == "fails" {
		return "", errFake
	}
	return "it prints this\n", nil
}
func (e faultyEnv) Shell() ([]string, error) { e.t.Error("unexpected Shell"); return nil, nil }
func (e faultyEnv) HideQueue() error         { e.called("queue hide"); return nil }
func (e faultyEnv) RestoreQueue() error      { e.called("queue restore"); return nil }

// fakeRunner is one process of a runner.
type fakeRunner struct {
	env     *fakeEnv
	name    string
	nth     int // process
	tells   targets.Sink
	signals chan os.Signal

	mu       sync.Mutex
	sequence uint64
	live     bool
	probeErr error
}

// say publishes a status with the next sequence number.
func (r *fakeRunner) say(s api.Status) {
	r.mu.Lock()
	r.sequence++
	s.Sequence, s.Runner = r.sequence, r.name
	r.mu.Unlock()
	r.tells.Status(s)
}

func (r *fakeRunner) exit(code int, message string) {
	r.tells.Exit(targets.Exit{Code: code, Message: message, Time: time.Now()})
}

func (r *fakeRunner) Get(_ context.Context, path string) (int, []byte, error) {
	if path != "/livez" && path != "/readyz" {
		r.env.t.Errorf("unexpected request for %s", path)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.live {
		return 503, nil, r.probeErr
	}
	return 200, nil, r.probeErr
}

func (r *fakeRunner) Signal(_ context.Context, sig os.Signal) error {
	r.signals <- sig
	return nil
}

// stream is a list that readers follow from its beginning.
type stream[T any] struct {
	mu      sync.Mutex
	items   []T
	changed chan struct{}
}

func newStream[T any]() *stream[T] { return &stream[T]{changed: make(chan struct{})} }

func (s *stream[T]) add(item T) { s.change(func() { s.items = append(s.items, item) }) }

func (s *stream[T]) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream[T]) follow(ctx context.Context, each func(T)) error {
	for next := 0; ; {
		s.mu.Lock()
		items, changed := s.items[next:], s.changed
		s.mu.Unlock()
		for _, item := range items {
			each(item)
		}
		next += len(items)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

var errFake = errors.New("made to fail")
