package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/program"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
)

type demoCommand struct {
	Play bool `help:"Type the kubectl lines, explain each, and end when every runner has drained."`
}

// Run shows a scenario on a control plane of its own, and leaves nothing behind.
func (c demoCommand) Run(ctx context.Context, k *kong.Context) error {
	// A terminal that is closed and a pipe that nobody reads end it, too.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	// A second signal ends it at once, and the janitor cleans up. But some send the
	// first one twice.
	context.AfterFunc(ctx, func() {
		time.AfterFunc(time.Second, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
	})
	var left error // what could not be cleaned up
	err := c.show(ctx, k, func(problem error) { left = errors.Join(left, problem) })
	if left != nil || ctx.Err() == nil {
		return errors.Join(err, left)
	}
	fmt.Fprintln(k.Stdout, "\nStopped; everything is cleaned up.")
	if !c.Play {
		return nil
	}
	// It was not shown to its end, and so ends as if it had not caught the signal.
	signal.Reset(os.Interrupt)
	return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGINT), errors.New("interrupted"))
}

// show makes a place for the scenario and shows it there. It notes what it has to leave.
func (c demoCommand) show(ctx context.Context, k *kong.Context, note func(error)) error {
	all, err := engine.Format.Load(filepath.Join("scenarios", "demo", "steer-two-runners.yaml"))
	if err != nil {
		return err
	}
	s := all[0]
	dir, remove, err := program.TempDir("studio-go-runner-demo-*")
	if err != nil {
		return err
	}
	defer func() { note(remove()) }()
	fmt.Fprintln(k.Stdout, "Starting etcd and kube-apiserver …")
	plane, err := controlplane.Start(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer func() { note(plane.Close()) }()
	bin, err := filepath.Abs("bin") // runners work in directories of their own
	if err != nil {
		return err
	}
	target, err := embedded.New(embedded.Config{
		Handle: plane.Handle, RunnerBinary: filepath.Join(bin, "runner"), NVMLLibrary: filepath.Join(bin, "libnvidia-ml.so.1"), TempDir: dir,
	})
	if err != nil {
		return err
	}
	env, err := target.Isolate(ctx, targets.Isolation{Name: s.Name, Needs: s.Needs, Permissions: s.Permissions, NodeMaps: engine.NodeMaps(s)})
	if err != nil {
		return err
	}
	defer func() { note(env.Close(context.WithoutCancel(ctx))) }()
	screen := &screen{out: k.Stdout, scenario: s, record: history.New(), env: env}
	if !c.Play {
		if err := instructions(k.Stdout, s, env); err != nil {
			return err
		}
		return screen.during(ctx, engine.Attend)
	}
	if err := screen.during(ctx, engine.Run); err != nil {
		return err
	}
	screen.record.View(func(f *history.Facts) {
		fmt.Fprintf(k.Stdout, "\nNo task is lost, and none ran twice: %s.\n", f.Queue) // as the engine has seen
	})
	return nil
}

// instructions are the lines of the scenario, for another terminal.
func instructions(out io.Writer, s scenario.Scenario, env targets.Env) error {
	variables, err := env.(targets.KubectlControl).Shell()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nIn another terminal (Ctrl-C here ends and cleans up):\nexport %s\n", strings.Join(variables, " "))
	about := ""
	for _, step := range s.Steps {
		switch text, _, _ := strings.Cut(fmt.Sprint(step.Value), "\n"); step.Verb {
		case "say":
			about = "# " + text + "\n"
		case "kubectl":
			fmt.Fprintf(out, "%skubectl %s\n", about, text)
			about = ""
		}
	}
	return nil
}
