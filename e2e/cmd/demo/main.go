// Command demo is `make run`: a control plane, two runners with four fake GPUs
// each and a stream of small tasks, to watch what the two ConfigMaps do.
//
//	go run ./e2e/cmd/demo          # a person types the kubectl lines
//	go run ./e2e/cmd/demo --play   # it types them itself and ends
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
)

type options struct {
	Play   bool   `help:"Type the kubectl lines, explain each, and end when every runner has drained."`
	Runner string `type:"existingfile" default:"bin/runner" help:"The runner to show."`
	NVML   string `name:"nvml" type:"existingfile" default:"bin/libnvidia-ml.so.1" help:"The fake NVML library."`
}

func main() {
	var o options
	kong.Parse(&o, kong.Name("demo"), kong.Description("Watch two runners and steer them with kubectl."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted && !o.Play && (err == nil || errors.Is(err, context.Canceled)):
		fmt.Println("\nStopped; everything is cleaned up.")
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// names of the runners, which are their node maps' names as well.
var names = []string{"runner-a", "runner-b"}

// run starts everything, shows it, and cleans up.
func run(ctx context.Context, o options) (err error) {
	programs, err := assets.Ensure(ctx, os.Stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "studio-go-runner-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	fmt.Println("Starting etcd and kube-apiserver …")
	planeDir := filepath.Join(dir, "controlplane")
	if err := os.Mkdir(planeDir, 0o700); err != nil {
		return err
	}
	plane, err := embedded.StartControlPlane(ctx, programs, planeDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plane.Close()) }()
	runner, err := filepath.Abs(o.Runner)
	if err != nil {
		return err
	}
	library, err := filepath.Abs(o.NVML)
	if err != nil {
		return err
	}
	place, err := embedded.New(embedded.Config{Handle: plane.Handle(), RunnerBinary: runner, NVMLLibrary: library, TempDir: dir})
	if err != nil {
		return err
	}
	env, err := place.Isolate(ctx, targets.Isolation{
		Name: "demo", Needs: []scenario.Need{scenario.NeedGPUs}, Permissions: scenario.PermissionsShipped, NodeMaps: names,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.Close(context.WithoutCancel(ctx))) }()

	shell, err := newShell(programs, dir, plane.Handle().Kubeconfig, env.Namespace())
	if err != nil {
		return err
	}
	return newDemo(env, shell).run(ctx, o.Play)
}
