package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/older"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Config is what the target needs.
type Config struct {
	Handle Handle
	// RunnerBinary is the program that is tested.
	RunnerBinary string
	// Adapter starts and feeds runners of another make, instead of RunnerBinary.
	Adapter place.Adapter
	// ClientBinary is the program for submits and looks into the queue; empty
	// is RunnerBinary. A race detector there costs much and finds nothing.
	ClientBinary string
	// NVMLLibrary is the fake libnvidia-ml.so.1; without it runners have no GPUs.
	NVMLLibrary string
	// TempDir is where working directories are made; empty is the system's place.
	TempDir string
}

// Handle is what is shared by all scenarios.
type Handle struct {
	controlplane.Handle
	// Queues is a server for queues; nil where there is none.
	Queues *pgserver.Server
}

// Target is the embedded target.
type Target struct {
	kube.Access
	config Config
}

var _ targets.Target = (*Target)(nil)

// New makes a target on a control plane that runs.
func New(config Config) (t *Target, err error) {
	t = &Target{config: config}
	if t.Access, err = config.Handle.Connect(); err != nil {
		return nil, fmt.Errorf("set up embedded target: %w", err)
	}
	return t, nil
}

// lacks says what the target lacks for a need: GPUs take a library, and kubectl must
// be installed.
func (t *Target) lacks(need scenario.Need) (err error) {
	switch need {
	case scenario.NeedKubectl:
		_, err = t.config.Handle.KubectlDir()
	case scenario.NeedGPUs, scenario.NeedFakeGPUs:
		if _, err = os.Stat(t.config.NVMLLibrary); err != nil {
			err = fmt.Errorf("the fake NVML library cannot be used, or is not built: %w", err)
		}
	}
	return err
}

// Isolate makes a namespace, an account for runners, and a queue; and, for a
// scenario that stops the API server, a control plane that is all its own. What was
// made is removed again if anything fails.
func (t *Target) Isolate(ctx context.Context, isolation targets.Isolation) (targets.Env, error) {
	for _, need := range isolation.Needs {
		if err := t.lacks(need); err != nil {
			return nil, targets.Cannot(fmt.Sprintf("needs %s: %v", need, err))
		}
	}
	if isolation.Server && t.config.Handle.Queues == nil {
		return nil, targets.Cannot("needs PostgreSQL: it is not installed; on Debian: apt-get install postgresql")
	}
	e := &env{target: t, handle: t.config.Handle, Place: place.Place{Access: t.Access, Isolation: isolation}}
	err := e.layout()
	if err == nil && e.Needs(scenario.NeedOlder) {
		e.Layout.Submits, err = older.Program(ctx, isolation.Server)
	}
	if err == nil {
		err = e.createQueue(ctx)
	}
	if err == nil {
		err = e.connect(ctx)
	}
	if err != nil {
		if err = errors.Join(err, e.Close(context.WithoutCancel(ctx))); errors.As(err, new(targets.Cannot)) {
			return nil, err
		}
		return nil, fmt.Errorf("isolate scenario %q: %w", isolation.Name, err)
	}
	return e, nil
}
