package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// absent tells whether there are no GPUs to keep. A state that is damaged is
// neither replaced nor kept.
func (c create) absent() (bool, error) {
	_, err := fakegpu.Load(c.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("keep the fake GPUs that are there: %w; remove %s to begin anew", err, c.Dir)
	}
	return false, nil
}

type install struct {
	Dir string `arg:"" help:"The directory, which is made if it is not there."`
}

// Run copies the command and the library to a directory: from a container to its
// node, without a shell.
func (i install) Run(c *cli, out io.Writer) error {
	library, err := c.library()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if err := os.MkdirAll(i.Dir, 0o755); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	for name, source := range map[string]string{"fakegpu": self, "libnvidia-ml.so.1": library} {
		if err := put(filepath.Join(i.Dir, name), source); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	for name, of := range map[string]string{nvidiaSMI: "fakegpu", "libnvidia-ml.so": "libnvidia-ml.so.1"} {
		if err := link(filepath.Join(i.Dir, name), of); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	fmt.Fprintln(out, "fakegpu, nvidia-smi and libnvidia-ml.so.1 are in", i.Dir)
	return nil
}

// put copies a program or library. It never writes into a file that is there:
// programs that run have it open.
func put(target, source string) error {
	text, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if now, err := os.ReadFile(target); err == nil && bytes.Equal(now, text) {
		return nil
	}
	next := target + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(next, text, 0o755); err != nil {
		return err
	}
	return os.Rename(next, target)
}

// link gives a file its other name, that of a program that scripts call or of a
// library that some clients open.
func link(name, of string) error {
	if now, err := os.Readlink(name); err == nil && now == of {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(of, name)
}

// library returns the path of the fake library.
func (c *cli) library() (string, error) {
	library := c.Library
	if library == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find the library: %w; set --library", err)
		}
		library = filepath.Join(filepath.Dir(self), "libnvidia-ml.so.1")
	}
	library, err := filepath.Abs(library)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(library); err != nil {
		return "", fmt.Errorf("find the library: %w; build it with make, or set --library", err)
	}
	return library, nil
}
