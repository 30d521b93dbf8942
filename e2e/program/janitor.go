package program

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// janitor is a script that ends the runners and tasks which have their files below a
// directory, and removes that, once nobody has its input open any more.
//
//go:embed janitor.sh
var janitor string

// Clean ends the runners and tasks that have their files below a directory, and removes it.
func Clean(ctx context.Context, dir string) error {
	return Run(ctx, nil, nil, nil, "/bin/sh", "-c", janitor, "janitor", dir)
}

// TempDir makes a directory for a target and a control plane. A process of its own cleans
// it when remove is called, and when this process ends without a word, as after a SIGKILL.
func TempDir(pattern string) (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp("", pattern); err != nil {
		return "", nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", janitor, "janitor", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends this process is not for that one
	word, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("start janitor: %w", err), os.Remove(dir))
	}
	return dir, func() error {
		if err := errors.Join(word.Close(), cmd.Wait()); err != nil {
			return fmt.Errorf("remove %s: %w", dir, err)
		}
		return nil
	}, nil
}
