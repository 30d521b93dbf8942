package conformance

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// env is a place as anybody's runner has it: nobody sees into the queue, and what a
// runner says of itself does not count, should it speak our protocol.
type env struct {
	targets.Env
	targets.APIServerControl
	targets.NetworkControl
	targets.TokenControl
	targets.KubectlControl

	mu        sync.Mutex // guards what follows
	submitted []string
	ended     map[string]bool
}

var _ targets.Env = (*env)(nil)

func newEnv(e targets.Env) *env {
	box := &env{Env: e, ended: make(map[string]bool)}
	box.APIServerControl, _ = e.(targets.APIServerControl)
	box.NetworkControl, _ = e.(targets.NetworkControl)
	box.TokenControl, _ = e.(targets.TokenControl)
	box.KubectlControl, _ = e.(targets.KubectlControl)
	return box
}

// settle is long enough for a scenario to do something within it.
const settle = 3 * time.Second

// StartRunner starts a runner and is deaf to its status. Where all is given more time,
// so are its own times: a scenario waits within them.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	flags := map[scenario.Flag]string{"settle": settle.String()}
	maps.Copy(flags, spec.Flags)
	for name, value := range flags {
		if d, err := time.ParseDuration(value); err == nil {
			flags[name] = engine.Stretch(d).String()
		}
	}
	spec.Flags = flags
	return e.Env.StartRunner(ctx, spec, deaf{tells})
}

type deaf struct{ targets.Sink }

func (deaf) Status(api.Status) {}

// Submit keeps the ids of the tasks.
func (e *env) Submit(ctx context.Context, tasks []api.Task) error {
	e.mu.Lock()
	for _, t := range tasks {
		e.submitted = append(e.submitted, t.ID)
	}
	e.mu.Unlock()
	return e.Env.Submit(ctx, tasks)
}

// Journal keeps what has ended.
func (e *env) Journal(ctx context.Context, each func(targets.TaskNote)) error {
	return e.Env.Journal(ctx, func(n targets.TaskNote) {
		if n.End {
			e.mu.Lock()
			e.ended[n.Task] = true
			e.mu.Unlock()
		}
		each(n)
	})
}

// Queue is what can be known of it: what was submitted and has not come to its end.
func (e *env) Queue(context.Context) (q targets.Contents, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range slices.Compact(slices.Sorted(slices.Values(e.submitted))) {
		t := api.TaskStatus{ID: id, State: api.TaskWaiting}
		if e.ended[id] {
			t.State = api.TaskFinished
		}
		q = append(q, t)
	}
	return q, nil
}
