package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/studioml/studio-go-runner/e2e/target"
	"github.com/studioml/studio-go-runner/fakegpu"
)

// defaultProfile is the format's default (scenario.Runner).
const defaultProfile = "T4"

// gpus makes the fake GPUs of a runner in dir, unless a former start has made
// them, and returns the variables that show them to it. The name is the seed of
// their UUIDs: the same scenario has the same GPUs in every run.
func (e *env) gpus(spec target.RunnerSpec, dir string) ([]string, error) {
	config := e.target.config
	if config.NVMLLibrary == "" {
		return nil, errors.New("it has GPUs, but there is no fake NVML library")
	}
	_, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		_, err = fakegpu.Create(dir, fakegpu.Spec{Profile: cmp.Or(spec.Profile, defaultProfile), Count: spec.GPUs, Seed: spec.Name})
	}
	if err != nil {
		return nil, fmt.Errorf("make fake GPUs: %w", err)
	}
	return []string{"STUDIOML_NVML_LIBRARY=" + config.NVMLLibrary, fakegpu.EnvState + "=" + dir}, nil
}
