package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (targets.Runner, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, err := e.start(ctx, spec, tells)
	if err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	e.processes = append(e.processes, p)
	return p, nil
}

// start starts the process of a runner. Everything but the termination message and the
// address is the same every time.
func (e *env) start(ctx context.Context, spec targets.RunnerSpec, tells targets.Sink) (*process, error) {
	if e.closed {
		return nil, errors.New("the scenario is closed")
	}
	nth := 1
	for _, p := range e.processes {
		if p.name == spec.Name {
			if !p.HasEnded() {
				return nil, errors.New("it is running")
			}
			nth++
		}
	}
	dir := filepath.Join(e.dir, "runners", spec.Name)
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "home"), 0o755), os.MkdirAll(filepath.Join(dir, "tmp"), 0o755))
	if err != nil {
		return nil, err
	}
	env, err := e.environment(ctx, spec, dir)
	if err != nil {
		return nil, err
	}
	p := &process{name: spec.Name, address: controlplane.Loopback() + ":8080", tells: tells}
	termination := filepath.Join(dir, fmt.Sprintf("termination-%d", nth))
	added := map[string]string{
		"listen": p.address, "kubeconfig": e.Kubeconfig(), "namespace": e.Namespace(), "termination-log": termination,
	}
	if e.way == nil {
		added["spool"] = e.spool()
	} else {
		added["queue"] = e.way.URL(filepath.Base(e.dir))
	}
	serves := e.config.RunnerBinary
	if spec.Older {
		serves = e.Layout.Submits
	}
	command := append([]string{serves}, place.ServeArgs(spec, added)...)
	if adapter := e.config.Adapter; adapter != nil {
		var more map[string]string
		command, more = adapter.Run(spec, added)
		maps.Copy(env, more)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env, cmd.Dir = program.PassedOn(), dir
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return p, p.run(cmd, e.Evidence().Record(fmt.Sprintf("runner-%s.%d.log", spec.Name, nth)), termination)
}

// environment is that of a runner, and so of its tasks, beside what every program gets.
// Nothing else of this machine gets in: a KUBECONFIG or CUDA_VISIBLE_DEVICES would change
// the tests.
func (e *env) environment(ctx context.Context, spec targets.RunnerSpec, dir string) (map[string]string, error) {
	env := map[string]string{
		"HOME":   filepath.Join(dir, "home"),
		"TMPDIR": filepath.Join(dir, "tmp"), // by this, tasks that are left are found
	}
	if spec.Hostname != scenario.NoHost {
		env["HOSTNAME"] = cmp.Or(spec.Hostname, spec.Name)
	}
	if spec.GPUs == 0 {
		env[api.EnvNVDevices] = "none" // should the machine have any
		return env, nil
	}
	maps.Copy(env, e.ShowGPUs(spec))
	return env, e.makeGPUs(ctx, spec)
}

// makeGPUs makes the fake GPUs of a runner's machine, unless that was done before.
func (e *env) makeGPUs(ctx context.Context, spec targets.RunnerSpec) error {
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
