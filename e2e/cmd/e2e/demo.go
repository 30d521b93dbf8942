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
	dir, remove, err := program.TempDir("studio-go-runner-demo-*")
	if err != nil {
		return err
	}
	err = c.show(ctx, k, dir)
	if left := remove(); left != nil || ctx.Err() == nil {
		return errors.Join(err, left)
	}
	fmt.Fprintln(k.Stdout, "\nStopped; everything is cleaned up.")
	if c.Play {
		return errors.New("it was not played to its end")
	}
	return nil
}

// show makes a place for the scenario and shows it there. What it cannot clean up, the
// janitor of the directory does.
func (c demoCommand) show(ctx context.Context, k *kong.Context, dir string) error {
	all, err := engine.Format.Load(filepath.Join("scenarios", "demo", "steer-two-runners.yaml"))
	if err != nil {
		return err
	}
	s := all[0]
	fmt.Fprintln(k.Stdout, "Starting etcd and kube-apiserver …")
	plane, err := controlplane.Start(ctx, dir, nil)
	if err != nil {
		return err
	}
	defer plane.Close()
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
	defer env.Close(context.WithoutCancel(ctx))
	record, play := history.New(), engine.Run
	if !c.Play {
		play = engine.Attend
		if err := instructions(k.Stdout, s, env); err != nil {
			return err
		}
	}
	err = tell(ctx, k.Stdout, record, func(ctx context.Context) error { return play(ctx, env, s, record) })
	if err != nil || !c.Play {
		return err
	}
	record.View(func(s *history.Summary) {
		fmt.Fprintf(k.Stdout, "\nNo task is lost, and none ran twice: %s.\n", s.Queue) // as the engine has seen
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
	for _, step := range s.Steps {
		switch text, _, _ := strings.Cut(fmt.Sprint(step.Value), "\n"); step.Verb {
		case "say":
			fmt.Fprintf(out, "# %s\n", text)
		case "kubectl":
			fmt.Fprintf(out, "kubectl %s\n", text)
		}
	}
	return nil
}
