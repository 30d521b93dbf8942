package fakegpu

import (
	"errors"
	"os"
	"path/filepath"
)

// Environment returns the variables, as of os.Environ, with which a program sees
// the GPUs of a state directory: by them the library finds its state, the loader
// the library, the runner, which opens it by its path, as well, and scripts the
// nvidia-smi beside it: a real one does not run on the library. A relative path
// would mean another file where the program changes its directory.
func Environment(dir, library string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if library, err = filepath.Abs(library); err != nil {
		return nil, err
	}
	beside := filepath.Dir(library)
	variables := []string{EnvState + "=" + dir, "STUDIOML_NVML_LIBRARY=" + library, "LD_LIBRARY_PATH=" + beside}
	if others := os.Getenv("LD_LIBRARY_PATH"); others != "" {
		variables[2] += ":" + others
	}
	if others := os.Getenv("PATH"); others != "" { // without one, shells have their own
		variables = append(variables, "PATH="+beside+":"+others)
	}
	return variables, nil
}

// Exec makes GPUs that last while run does, and gives it their environment.
func Exec(library string, spec Spec, run func(environment []string) error) (err error) {
	dir, err := os.MkdirTemp("", "fakegpu-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := Create(dir, spec); err != nil {
		return err
	}
	environment, err := Environment(dir, library)
	if err != nil {
		return err
	}
	return run(environment)
}
