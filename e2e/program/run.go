package program

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Run runs a program of this machine to its end, with these variables more. What
// it prints on stderr is in the error. With ctx ends what it has started as well: a
// docker run of kind would go on, and make its node.
func Run(ctx context.Context, variables []string, stdin io.Reader, stdout io.Writer, command ...string) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	cmd.Env = append(PassedOn(), variables...)
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("%s: %w\n%s", strings.Join(command[:min(len(command), 2)], " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// PassedOn are the variables that every program gets from this process: where
// programs are found, how those built with -race behave, and the fault of a mutant.
func PassedOn() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "GORACE=" + os.Getenv("GORACE"), "MUTANT=" + os.Getenv("MUTANT")}
}

// Flags are flags of a command line, by their names without dashes.
func Flags(values map[string]string) (args []string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--"+name+"="+values[name])
	}
	return args
}
