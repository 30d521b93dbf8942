package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	// defaultSlots is the format's default (scenario.Runner).
	defaultSlots = 4
	// hostnameUnset in a scenario removes HOSTNAME.
	hostnameUnset = "unset"
)

// StartRunner starts a runner, or starts it again under its old name.
func (e *env) StartRunner(ctx context.Context, spec targets.RunnerSpec) (targets.Runner, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := e.start(spec)
	if err != nil {
		return nil, fmt.Errorf("start runner %s: %w", spec.Name, err)
	}
	return p, nil
}

// start starts the process of a runner.
func (e *env) start(spec targets.RunnerSpec) (*process, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the scenario is closed")
	}
	starts := 1
	for _, p := range e.processes {
		if p.name == spec.Name {
			if !p.ended() {
				return nil, errors.New("it is running")
			}
			starts++
		}
	}
	config, err := e.processConfig(spec, starts)
	if err != nil {
		return nil, err
	}
	p, err := startProcess(config)
	if err != nil {
		return nil, err
	}
	e.processes = append(e.processes, p)
	return p, nil
}

// processConfig says how the runner is started for the nth time. Everything but
// the termination message and the log is the same every time.
func (e *env) processConfig(spec targets.RunnerSpec, nth int) (processConfig, error) {
	if spec.Name == "" || filepath.Base(spec.Name) != spec.Name {
		return processConfig{}, fmt.Errorf("its name is %q, allowed is what can be the name of a directory", spec.Name)
	}
	dir := filepath.Join(e.dir, "runners", spec.Name)
	for _, sub := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return processConfig{}, err
		}
	}
	env, err := e.environment(spec, dir)
	if err != nil {
		return processConfig{}, err
	}
	config := processConfig{
		name:        spec.Name,
		dir:         dir,
		env:         env,
		termination: filepath.Join(dir, fmt.Sprintf("termination-%d", nth)),
	}
	if hostname, set := hostname(spec); set && len(validation.IsDNS1123Subdomain(hostname)) == 0 {
		config.nodeMap = hostname
	}
	if e.isolation.Artifacts != "" {
		config.logFile = filepath.Join(e.isolation.Artifacts, fmt.Sprintf("runner-%s.%d.log", spec.Name, nth))
	}
	config.command = append([]string{e.target.config.RunnerBinary, "serve"}, e.flags(spec, config.termination)...)
	return config, nil
}

// flags are the flags of runner serve; those of the scenario win.
func (e *env) flags(spec targets.RunnerSpec, termination string) []string {
	flags := map[string]string{
		"spool":           e.spool.path,
		"listen":          "127.0.0.1:0",
		"kubeconfig":      e.kubeconfig(),
		"namespace":       e.namespace,
		"name":            spec.Name,
		"slots":           strconv.Itoa(cmp.Or(spec.Slots, defaultSlots)),
		"settle":          "200ms",
		"log-format":      "json",
		"log-level":       "debug",
		"termination-log": termination,
	}
	maps.Copy(flags, spec.Flags)
	var args []string
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		args = append(args, "--"+name+"="+flags[name])
	}
	return args
}

// environment is that of a runner, and so of its tasks. Nothing else of this
// machine gets in: a KUBECONFIG or CUDA_VISIBLE_DEVICES would change the tests.
func (e *env) environment(spec targets.RunnerSpec, dir string) ([]string, error) {
	env := append(passedOn(),
		"HOME="+filepath.Join(dir, "home"),
		"TMPDIR="+filepath.Join(dir, "tmp"), // killLeftovers finds tasks by this
	)
	if hostname, set := hostname(spec); set {
		env = append(env, "HOSTNAME="+hostname)
	}
	if spec.GPUs == 0 {
		return append(env, api.EnvNVDevices+"=none"), nil // should the machine have any
	}
	gpus, err := e.gpus(spec)
	return append(env, gpus...), err
}

// hostname is the value of HOSTNAME, if it is set.
func hostname(spec targets.RunnerSpec) (value string, set bool) {
	return cmp.Or(spec.Hostname, spec.Name), spec.Hostname != hostnameUnset
}

// passedOn are the variables that every program gets from this process: where
// programs are found, and where binaries built with -race or -cover report.
func passedOn() []string {
	var env []string
	for _, name := range []string{"PATH", "GORACE", "GOCOVERDIR"} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	return env
}
