package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
)

// demoFile is the scenario that the demo shows.
const demoFile = "scenarios/demo/steer-two-runners.yaml"

type demoCommand struct {
	Play  bool   `help:"Type the kubectl lines, explain each, and end when every runner has drained."`
	Sweep string `hidden:"" help:"Remove this directory when stdin ends."`
}

// Run shows a scenario on a control plane of its own, and leaves nothing behind.
func (c demoCommand) Run(ctx context.Context, r *repository) (err error) {
	if c.Sweep != "" {
		return sweep(ctx, c.Sweep)
	}
	// A terminal that is closed and a pipe that nobody reads end it, too.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	// Who is impatient is obeyed, and the janitor cleans up; but some send a signal twice.
	context.AfterFunc(ctx, func() {
		time.AfterFunc(time.Second, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
	})
	all, err := engine.Format.Load(r.path(demoFile))
	if err != nil {
		return err
	}
	err = c.show(ctx, r, all[0])
	switch {
	case context.Cause(ctx) == nil || err != nil && !errors.Is(err, context.Canceled):
		return err
	case c.Play:
		return errors.New("interrupted; everything is cleaned up")
	}
	fmt.Fprintln(r.out, "\nStopped; everything is cleaned up.")
	return nil
}

// show makes a place for the scenario, shows it there, and takes everything down.
func (c demoCommand) show(ctx context.Context, r *repository, s scenario.Scenario) (err error) {
	programs, err := assets.Ensure(ctx, r.progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "studio-go-runner-demo-*")
	if err != nil {
		return err
	}
	dismiss, err := startJanitor(dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, dismiss()) }()

	fmt.Fprintln(r.out, "Starting etcd and kube-apiserver …")
	planeDir := filepath.Join(dir, "controlplane")
	if err := os.Mkdir(planeDir, 0o700); err != nil {
		return err
	}
	plane, err := embedded.StartControlPlane(ctx, programs, planeDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	target, err := embedded.New(embedded.Config{
		Handle: plane.Handle(), RunnerBinary: r.path("bin", "runner"), NVMLLibrary: r.path("bin", "libnvidia-ml.so.1"), TempDir: dir,
	})
	if err != nil {
		return err
	}
	env, err := target.Isolate(ctx, targets.Isolation{
		Name: s.Name, Needs: s.Needs, Permissions: s.Permissions, NodeMaps: engine.NodeMaps(s),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close(context.WithoutCancel(ctx))) }()
	record := history.New()
	screen := newScreen(r.out, s, record, env)
	if !c.Play {
		if err := instructions(r.out, s, env); err != nil {
			return err
		}
		return screen.during(ctx, func() error { return engine.Attend(ctx, env, s, record) })
	}
	if err := screen.during(ctx, func() error { return engine.Run(ctx, env, s, record) }); err != nil {
		return err
	}
	return account(r.out, record)
}

// instructions are the lines of the scenario, for another terminal.
func instructions(out io.Writer, s scenario.Scenario, env targets.Env) error {
	variables, err := env.(targets.KubectlControl).Shell()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nIn another terminal (Ctrl-C here ends the demo and cleans up):\nexport %s\n", strings.Join(variables, " "))
	about := ""
	for _, step := range s.Steps {
		switch text := fmt.Sprint(step.Value); step.Verb {
		case "say":
			line, _, _ := strings.Cut(text, "\n")
			about = "# " + line + "\n"
		case "kubectl":
			fmt.Fprintf(out, "%skubectl %s\n", about, text)
			about = ""
		}
	}
	return nil
}

// account says what became of the tasks; the engine has seen that none is lost.
func account(out io.Writer, record *history.History) error {
	record.View(func(f *history.Facts) {
		finished, left := len(f.Queue.Finished), len(f.Queue.Ready)+len(f.Queue.Claimed)
		fmt.Fprintf(out, "\nTasks: %d submitted = %d finished + %d still in the queue. None is lost, none ran twice.\n", finished+left, finished, left)
	})
	return nil
}

// startJanitor starts a process that removes dir, and what runs there, when this
// one ends, however it ends, or when it is dismissed.
func startJanitor(dir string) (dismiss func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	janitor := exec.Command(self, "demo", "--sweep="+dir)
	janitor.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends this process is not for that one
	end, err := janitor.StdinPipe()
	if err == nil {
		err = janitor.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	return func() error {
		if err := errors.Join(end.Close(), janitor.Wait()); err != nil {
			return fmt.Errorf("clean up %s: %w", dir, err)
		}
		return nil
	}, nil
}

// sweep is the janitor.
func sweep(ctx context.Context, dir string) error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return embedded.Sweep(ctx, dir)
}
