package scheduler_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/gate"
	"github.com/studioml/studio-go-runner/runner/internal/gpu"
	"github.com/studioml/studio-go-runner/runner/internal/queue"
	"github.com/studioml/studio-go-runner/runner/internal/result"
	"github.com/studioml/studio-go-runner/runner/internal/scheduler"
)

const (
	machineGPUs   = 8
	mostOvertakes = 16 // the bound that the scheduler's documentation gives
)

// machine is a queue, an executor and a driver for random tasks. It keeps its
// own books of who uses which GPU and who went before whom, and compares.
type machine struct {
	*testing.T
	pool *gpu.Pool
	gate *gate.Gate

	mu      sync.Mutex
	entries map[*api.Task]*entry
	ready   []*entry      // in the order of the queue
	waiting []*entry      // fetched and not begun
	added   chan struct{} // closed and replaced when an entry becomes ready
	keys    int           // how many were given
	open    int           // tasks that have not ended
	users   map[string]*entry
	dying   map[string]bool // GPUs that are sick, though nobody has told the pool yet
}

func (m *machine) Fetch(ctx context.Context, serves func(api.Resources) bool) (queue.Delivery, error) {
	for {
		m.mu.Lock()
		for i, e := range m.ready {
			if serves(e.task.Resources) {
				m.ready = slices.Delete(m.ready, i, i+1)
				m.overtake(e)
				m.waiting = append(m.waiting, e)
				m.mu.Unlock()
				return e, nil
			}
		}
		added := m.added
		m.mu.Unlock()
		select {
		case <-added:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// overtake notes whom a task goes past that is fetched now. The lock must be
// held.
func (m *machine) overtake(e *entry) {
	e.overtook, e.past = 0, nil
	for _, w := range m.waiting {
		if e.task.Resources.GPUs == 0 || m.holds(w.task) {
			continue
		}
		e.past = append(e.past, w)
		if w.overtook++; w.overtook > mostOvertakes {
			m.Errorf("%s was overtaken %d times", w.task.ID, w.overtook)
		}
	}
}

// put makes an entry ready. The lock must be held.
func (m *machine) put(e *entry) {
	m.ready = append(m.ready, e)
	slices.SortFunc(m.ready, func(a, b *entry) int { return a.key - b.key })
	close(m.added)
	m.added = make(chan struct{})
}

// holds reports whether the task has its GPUs.
func (m *machine) holds(t *api.Task) bool {
	return t.Resources.GPUs == 0 || slices.ContainsFunc(m.pool.List(), func(g api.GPU) bool { return g.Task == t.ID })
}

func (m *machine) Execute(a scheduler.Attempt) (api.Result, *result.Draft, error) {
	if err := a.Start(); err != nil {
		return api.Result{}, nil, err
	}
	m.mu.Lock()
	e := m.begin(a)
	fails := e.spent <= e.failures
	crash := e.crash
	m.mu.Unlock()

	r := api.Result{Task: a.Task.ID, Attempt: a.Number, Outcome: api.Succeeded, GPUs: a.GPUs}
	timer := time.NewTimer(e.duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		if fails {
			r.Outcome = api.Failed
		}
	case <-crash:
		r.Outcome = api.Failed
	case <-a.Terminate.Done():
		r.Outcome = api.Interrupted
	case <-a.Kill.Done():
		r.Outcome = api.Interrupted
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	for _, uuid := range a.GPUs {
		delete(m.users, uuid)
	}
	return r, nil, nil
}

// begin notes who uses which GPU. The lock must be held.
func (m *machine) begin(a scheduler.Attempt) *entry {
	e := m.entries[a.Task]
	e.crash = make(chan struct{})
	if len(a.GPUs) != a.Task.Resources.GPUs {
		m.Errorf("%s asked for %d GPUs and got %v", a.Task.ID, a.Task.Resources.GPUs, a.GPUs)
	}
	for _, uuid := range a.GPUs {
		if other := m.users[uuid]; other != nil {
			m.Errorf("%s was given to %s and %s", uuid, other.task.ID, a.Task.ID)
		}
		m.users[uuid] = e
	}
	return e
}

// submit adds a random task.
func (m *machine) submit(r *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys++
	m.open++
	e := &entry{machine: m, key: m.keys, duration: time.Duration(1+r.IntN(10_000)) * time.Millisecond}
	e.task = &api.Task{
		ID: fmt.Sprintf("t-%d", m.keys), Command: "x",
		Resources: api.Resources{GPUs: []int{0, 1, 1, 1, 2, 2, 4, 8}[r.IntN(8)]},
	}
	if r.IntN(10) == 0 {
		e.failures = 1
	}
	m.entries[e.task] = e
	m.put(e)
}

// die makes a GPU sick: its task, if it has one, may notice before the pool is told.
func (m *machine) die(r *rand.Rand) {
	uuid := fmt.Sprintf("GPU-%d", r.IntN(machineGPUs))
	m.mu.Lock()
	m.dying[uuid] = true
	if e := m.users[uuid]; e != nil && e.crash != nil && r.IntN(2) == 0 {
		close(e.crash)
		e.crash = nil
	}
	m.mu.Unlock()
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	setHealth(m.pool, uuid, api.Sick, "Xid 79")
}

func (m *machine) heal(uuid string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.dying, uuid)
	setHealth(m.pool, uuid, api.Healthy, "")
}

// check is the scheduler's question about the GPUs of a failed attempt.
func (m *machine) check(_ context.Context, uuids []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, uuid := range uuids {
		if m.dying[uuid] {
			setHealth(m.pool, uuid, api.Sick, "Xid 79")
			return uuid + " is sick: Xid 79"
		}
	}
	return ""
}

// inspect is called when nothing moves.
func (m *machine) inspect(open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	free := 0
	for _, g := range m.pool.List() {
		if user := m.users[g.UUID]; (user == nil) != (g.Task == "") || user != nil && user.task.ID != g.Task {
			m.Errorf("%s is held by %q, and used by %v", g.UUID, g.Task, user)
		}
		switch {
		case g.Health == api.Healthy && g.Task == "":
			free++
		case g.Health == api.Sick && g.Task != "":
			m.Errorf("%s is sick and still held by %s", g.UUID, g.Task)
		}
	}
	if !open {
		if len(m.waiting) > 0 {
			m.Errorf("the gate is closed and %s was not given back", m.waiting[0].task.ID)
		}
		return
	}
	if len(m.waiting) > 1 {
		m.Errorf("%d tasks are fetched and wait", len(m.waiting))
	}
	overtakes := 0
	for _, e := range m.waiting {
		overtakes = e.overtook
		if e.task.Resources.GPUs <= free {
			m.Errorf("%s waits for %d GPUs while %d are free", e.task.ID, e.task.Resources.GPUs, free)
		}
	}
	for _, e := range m.ready {
		if n := e.task.Resources.GPUs; n <= free && (n == 0 || overtakes < mostOvertakes) {
			m.Errorf("%s is left in the queue, needs %d GPUs, and %d are free", e.task.ID, n, free)
		}
	}
}

func (m *machine) left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Whatever tasks come, whichever GPUs get sick and whenever the gate closes: no
// GPU is given twice, none is lost or idle while a task could use it, nobody is
// overtaken for ever, a sick GPU costs no attempt, and every task ends.
func TestRandomTasks(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			within(t)
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { randomTasks(t, rand.New(rand.NewPCG(seed, 1)), dir) })
		})
	}
}

func randomTasks(t *testing.T, r *rand.Rand, dir string) {
	devices := make([]gpu.Device, machineGPUs)
	for i := range devices {
		devices[i] = gpu.Device{GPU: api.GPU{UUID: fmt.Sprintf("GPU-%d", i)}}
	}
	m := &machine{
		T: t, pool: gpu.NewPool(devices), gate: gate.New(), added: make(chan struct{}), entries: make(map[*api.Task]*entry),
		users: make(map[string]*entry), dying: make(map[string]bool),
	}
	s := scheduler.New(scheduler.Config{
		Slots: func() int { return 1000 }, Gate: m.gate, Queue: m, GPUs: m.pool, Executor: m, Check: m.check,
		DrainDir: dir, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	m.gate.Set(true)
	open := true
	// Sick GPUs are rare in one half of the runs, so that waits are long.
	troubles := 3 + 27*r.IntN(2)
	for range 400 {
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		switch n := r.IntN(100); {
		case n < troubles/3:
			m.die(r)
		case n < 2*troubles/3:
			m.mu.Lock()
			setHealth(m.pool, fmt.Sprintf("GPU-%d", r.IntN(machineGPUs)), api.Retiring, "remap pending")
			m.mu.Unlock()
		case n < troubles:
			for i := range machineGPUs {
				m.heal(fmt.Sprintf("GPU-%d", i))
			}
		case n < troubles+2:
			open = !open
			m.gate.Set(open)
		default:
			m.submit(r)
		}
		synctest.Wait()
		m.inspect(open)
	}
	m.gate.Set(true)
	for i := range machineGPUs {
		m.heal(fmt.Sprintf("GPU-%d", i))
	}
	// No task takes longer than 10 s, twice if it fails once; even one after the
	// other they are through by then.
	for deadline := time.Now().Add(time.Duration(20*m.left()) * time.Second); m.left() > 0; {
		synctest.Wait()
		m.inspect(true)
		if time.Now().After(deadline) {
			t.Fatalf("%d tasks have not ended", m.left())
		}
		time.Sleep(100 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	for _, g := range m.pool.List() {
		if g.Task != "" {
			t.Errorf("%s is still held by %s", g.UUID, g.Task)
		}
	}
	if s := m.gate.Snapshot(); !s.Idle {
		t.Errorf("after the end: %+v, want idle", s)
	}
}
