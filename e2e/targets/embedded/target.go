// Package embedded is the target that needs no cluster: a real etcd and a real
// kube-apiserver on the loopback interface, and runners that are processes.
//
// The API server is complete as far as the runner can tell: role-based access
// control, admission policies, watches, Events. There is no controller-manager,
// no kubelet and no node, so there are no pods and no workloads, and namespaces
// stay as long as the control plane.
//
// One control plane is shared by all scenarios, each in its own namespace. A
// scenario that needs apiserver gets a control plane of its own.
//
// No process outlives the tests: a runner, etcd and the API server are killed
// by the kernel when the process that started them dies, however it dies.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

// Config is what the target needs. Without an Adapter it is plain data, for other processes.
type Config struct {
	controlplane.Handle // of what is shared by all scenarios
	// Queues is a server for queues; nil where there is none.
	Queues *pgserver.Server
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

// Target is the embedded target.
type Target struct {
	kube.Access
	config Config
}

var _ targets.Target = (*Target)(nil)

// New makes a target on a control plane that runs.
func New(config Config) (t *Target, err error) {
	t = &Target{config: config}
	if t.Access, err = config.Connect(); err != nil {
		return nil, fmt.Errorf("set up embedded target: %w", err)
	}
	return t, nil
}

// lacks says what the target lacks for a need: GPUs take a library, and kubectl must
// be installed.
func (t *Target) lacks(need scenario.Need) (err error) {
	switch need {
	case scenario.NeedKubectl:
		_, err = kubectlDir(t.config.Assets)
	case scenario.NeedGPUs, scenario.NeedFakeGPUs:
		if _, err = os.Stat(t.config.NVMLLibrary); err != nil {
			err = fmt.Errorf("the fake NVML library cannot be used, or is not built: %w", err)
		}
	}
	return err
}

// Isolate makes a directory, with the journal of the tasks in it, a namespace, an account
// for runners, and a queue; and, for a scenario that needs apiserver, a control plane that
// is all its own. What was made is removed again if anything fails.
func (t *Target) Isolate(ctx context.Context, isolation targets.Isolation) (targets.Env, error) {
	for _, need := range isolation.Needs {
		if err := t.lacks(need); err != nil {
			return nil, targets.Cannot(fmt.Sprintf("needs %s: %v", need, err))
		}
	}
	if isolation.Server && t.config.Queues == nil {
		return nil, targets.Cannot("needs PostgreSQL: it is not installed; on Debian: apt-get install postgresql")
	}
	e := &env{config: t.config, Place: place.Place{Access: t.Access, Isolation: isolation}}
	err := e.layout(ctx)
	if err == nil {
		err = e.connect(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("isolate scenario %q: %w", isolation.Name, err), e.Close(context.WithoutCancel(ctx)))
	}
	return e, nil
}
