package task

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/supervise"
)

// ownPrefix is that of the variables that configure the runner. A task which
// starts a runner must not hand it the configuration of this one.
const ownPrefix = "STUDIOML_"

// private are variables by which the runner itself may get at the cluster and at a
// queue server, and those of the trace in which it was started. A task that needs its
// own has them in its document.
var private = []string{"KUBECONFIG", "PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSSLKEY", "PGSSLPASSWORD", "TRACEPARENT", "TRACESTATE"}

// noDevices keeps the container tools that read NVIDIA_VISIBLE_DEVICES away
// from all GPUs; for them, an empty value means the same as none.
const noDevices = "void"

// environ is the environment of the process: the runner's, then the task's,
// then what tells the task about this attempt. The last of several values counts.
func environ(spec Spec) []string {
	var env []string
	for _, v := range spec.Environ {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, ownPrefix) && !slices.Contains(private, name) {
			env = append(env, v)
		}
	}
	env = append(env, "PWD="+cmp.Or(spec.Task.Workdir, spec.Dir))
	for name, value := range spec.Task.Env {
		env = append(env, name+"="+value)
	}
	cuda := strings.Join(spec.GPUs, ",")
	nvidia := cuda
	if len(spec.GPUs) == 0 {
		nvidia = noDevices
	}
	return append(env,
		api.EnvTaskID+"="+spec.Task.ID,
		api.EnvTaskAttempt+"="+strconv.Itoa(spec.Attempt),
		api.EnvRunner+"="+spec.Runner,
		api.EnvDrainFile+"="+spec.DrainFile,
		api.EnvOutputs+"="+spec.Outputs,
		api.EnvCheckpoint+"="+spec.Checkpoint,
		api.EnvCUDADevices+"="+cuda,
		api.EnvNVDevices+"="+nvidia,
	)
}

// lookPath finds the command in the PATH that the task will have, which
// exec.LookPath would take from the runner. A command with a slash is taken
// as it is, relative to dir.
func lookPath(command, dir string, env []string) (string, error) {
	if strings.Contains(command, "/") {
		path := command
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		return path, executable(path, command)
	}
	search := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			search = value // the last one counts
		}
	}
	for _, d := range filepath.SplitList(search) {
		// Relative entries would find what the task itself has made.
		if !filepath.IsAbs(d) {
			continue
		}
		path := filepath.Join(d, command)
		if err := executable(path, command); err == nil || !supervise.Own(err) {
			return path, err
		}
	}
	return "", fmt.Errorf("command %s was not found in PATH %s", api.Excerpt(command), api.Excerpt(search))
}

func executable(path, command string) error {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("command %s was not found", api.Excerpt(command))
	case err != nil:
		return fmt.Errorf("command %s cannot be used: %w", api.Excerpt(command), err)
	case info.IsDir():
		return fmt.Errorf("command %s is a directory", api.Excerpt(command))
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("command %s is not executable", api.Excerpt(command))
	}
	return nil
}
