package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
	"github.com/studioml/studio-go-runner/runner/api"
)

// StartRunner starts a runner, or starts it again under its old name.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (_ targets.Runner, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start runner %s: %w", spec.Name, err)
		}
	}()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the scenario is closed")
	}
	starts := 1
	for _, p := range e.processes {
		if p.name == spec.Name {
			if !p.HasEnded() {
				return nil, errors.New("it is running")
			}
			starts++
		}
	}
	p, cmd, err := e.prepare(ctx, spec, starts)
	if err != nil {
		return nil, err
	}
	p.tells = tells
	if err := p.run(cmd); err != nil {
		return nil, err
	}
	e.processes = append(e.processes, p)
	return p, nil
}

// prepare makes what the process of a runner needs to be started for the nth time.
// Everything but the termination message and the address is the same every time.
func (e *env) prepare(ctx context.Context, spec targets.RunnerSpec, nth int) (*process, *exec.Cmd, error) {
	if spec.Name == "" || filepath.Base(spec.Name) != spec.Name {
		return nil, nil, fmt.Errorf("its name must be one that a directory can have, and is %q", spec.Name)
	}
	dir := filepath.Join(e.dir, "runners", spec.Name)
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, nil, err
		}
	}
	env, err := e.environment(ctx, spec, dir)
	if err != nil {
		return nil, nil, err
	}
	file := fmt.Sprintf("runner-%s.%d", spec.Name, nth)
	p := &process{
		name: spec.Name, address: controlplane.Loopback() + ":8080", termination: filepath.Join(dir, fmt.Sprintf("termination-%d", nth)),
		log: e.Evidence().Record(file + ".log"), statuses: e.Evidence().Record(file + ".status.jsonl"),
	}
	added := map[string]string{
		"listen":          p.address,
		"kubeconfig":      e.Kubeconfig(),
		"namespace":       e.Namespace(),
		"termination-log": p.termination,
	}
	name, value := e.queueFlag()
	added[name] = value
	serves := e.target.config.RunnerBinary
	if spec.Older {
		serves = e.Layout.Submits
	}
	command := append([]string{serves}, place.ServeArgs(spec, added)...)
	if adapter := e.target.config.Adapter; adapter != nil {
		var more map[string]string
		command, more = adapter.Run(spec, added)
		env = append(env, assignments(more)...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Dir = env, dir
	return p, cmd, nil
}

// environment is that of a runner, and so of its tasks. Nothing else of this
// machine gets in: a KUBECONFIG or CUDA_VISIBLE_DEVICES would change the tests.
func (e *env) environment(ctx context.Context, spec targets.RunnerSpec, dir string) ([]string, error) {
	env := append(program.PassedOn(),
		"HOME="+filepath.Join(dir, "home"),
		"TMPDIR="+filepath.Join(dir, "tmp"), // by this, tasks that are left are found
	)
	if spec.Hostname != scenario.NoHost {
		env = append(env, "HOSTNAME="+cmp.Or(spec.Hostname, spec.Name))
	}
	if spec.GPUs == 0 {
		return append(env, api.EnvNVDevices+"=none"), nil // should the machine have any
	}
	return append(env, assignments(e.ShowGPUs(spec))...), e.makeGPUs(ctx, spec)
}

// makeGPUs makes the fake GPUs of a runner's machine, unless that was done before.
func (e *env) makeGPUs(ctx context.Context, spec targets.RunnerSpec) error {
	if e.Layout.Library == "" {
		return errors.New("there is no fake NVML library for GPUs")
	}
	if _, err := os.Stat(e.GPUs(spec)); err == nil {
		return nil
	}
	return e.Run(ctx, nil, nil, e.CreateGPUs(spec)...)
}

// ChangeGPUs runs the fakegpu command on the state of a runner's GPUs.
func (e *env) ChangeGPUs(ctx context.Context, spec targets.RunnerSpec, words []string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.makeGPUs(ctx, spec); err != nil {
		return err
	}
	return e.Run(ctx, nil, nil, e.GPUCommand(spec, words)...)
}

// assignments are variables as an environment has them.
func assignments(variables map[string]string) (env []string) {
	for name, value := range variables {
		env = append(env, name+"="+value)
	}
	return env
}
