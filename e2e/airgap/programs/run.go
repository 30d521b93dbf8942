package programs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// showEvery is how often people see that something goes on.
const showEvery = 15 * time.Second

// maxLast bounds the output in an error, in bytes.
const maxLast = 8 << 10

// Run runs a program to its end, or to that of ctx, and so what it starts. Meanwhile
// it shows that it goes on. The error has the end of what it said.
func Run(ctx context.Context, cmd *exec.Cmd, progress io.Writer) error {
	return run(ctx, cmd, syscall.SIGKILL, progress)
}

func run(ctx context.Context, cmd *exec.Cmd, signal syscall.Signal, progress io.Writer) error {
	name := filepath.Base(cmd.Path) + " " + cmd.Args[1]
	var said bytes.Buffer
	if cmd.Stderr = &said; cmd.Stdout == nil {
		cmd.Stdout = &said
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, signal) }
	cmd.WaitDelay = 10 * time.Second

	ended := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() { show(name, progress, ended) })
	err := cmd.Run()
	close(ended)
	showing.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		text := said.Bytes()
		return fmt.Errorf("%s: %w\n%s", name, err, strings.TrimSpace(string(text[max(0, len(text)-maxLast):])))
	}
	return nil
}

// show says how long something takes, until it has ended.
func show(name string, progress io.Writer, ended <-chan struct{}) {
	began := time.Now()
	tick := time.NewTicker(showEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(progress, "%s goes on, %s so far\n", name, time.Since(began).Round(time.Second))
		case <-ended:
			return
		}
	}
}
