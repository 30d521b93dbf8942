// Command airgap makes what the harness needs of a machine and this one lacks. Who
// has what others use does not need it: a control plane of envtest in
// KUBEBUILDER_ASSETS; for kind, a Docker that answers and a node image in
// KIND_NODE_IMAGE. For everybody else make calls it:
//
//	go run -C e2e/airgap . controlplane             # the directory of etcd, kube-apiserver, kubectl
//	go run -C e2e/airgap . kind -- make e2e-kind    # a command with Docker and a node image
//	go run -C e2e/airgap . node-image               # ours, also where kind's could be had
//	go run -C e2e/airgap . debian                   # a root file system for the images of pods
//	go run -C e2e/airgap . check                    # whether Docker could be used
//
// It downloads what is published. Where there is neither a container registry nor
// a download site it builds all of that from Go modules and Debian's packages, and
// starts Docker. What took minutes to make stays in the user's cache directory. It
// runs on Linux, and is a module of its own so that the harness, which runs it as
// a program, is free of it.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/airgap/docker"
	"github.com/studioml/studio-go-runner/e2e/airgap/nodeimage"
	"github.com/studioml/studio-go-runner/e2e/airgap/programs"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes. The command of kind has its own.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// commands are the subcommands; their help is the text of --help.
type commands struct {
	ControlPlane controlPlaneCommand `cmd:"" name:"controlplane" help:"Print the directory of etcd, kube-apiserver and kubectl, which are downloaded or built unless they are there."`
	Kind         kindCommand         `cmd:"" help:"Run a command with Docker and the image of a kind node: in its environment are DOCKER_HOST and KIND_NODE_IMAGE."`
	NodeImage    nodeImageCommand    `cmd:"" help:"Make our own image of a kind node unless Docker has it, and print its name."`
	Debian       debianCommand       `cmd:"" help:"Print the file of a Debian root file system or, where none can be made, the name of an image."`
	Check        checkCommand        `cmd:"" help:"Print why Docker cannot be used or started here, or nothing; start nothing."`
}

// output is where a command prints its result and its progress.
type output struct{ result, progress io.Writer }

// run is the program; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	helped := false
	parser, err := kong.New(&commands{}, kong.Name("airgap"),
		kong.Description("What the harness needs and this machine lacks: a control plane, Docker, the image of a kind node."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true })) // after --help only
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	chosen, err := parser.Parse(args)
	switch {
	case helped:
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "airgap:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen.BindTo(ctx, (*context.Context)(nil))
	err = chosen.Run(output{stdout, stderr})
	var ended commandEnded
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &ended):
		return int(ended)
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	}
	fmt.Fprintln(stderr, "airgap:", err)
	return exitFailed
}

type controlPlaneCommand struct{}

func (controlPlaneCommand) Run(ctx context.Context, out output) error {
	dir, err := programs.EnsureControlPlane(ctx, out.progress)
	if err != nil {
		return err
	}
	fmt.Fprintln(out.result, dir)
	return nil
}

type kindCommand struct {
	Keep    bool     `env:"KEEP" help:"Leave Docker running if it is started."`
	Image   string   `env:"KIND_NODE_IMAGE" help:"The node image, if it is not to be chosen."`
	Command []string `arg:"" passthrough:"" help:"The command, after --."`
}

func (c kindCommand) Run(ctx context.Context, out output) error {
	return withDocker(ctx, c.Keep, out, func() (err error) {
		if c.Image == "" {
			if c.Image, err = nodeimage.Choose(ctx, out.progress); err != nil {
				return err
			}
		}
		return c.run(ctx)
	})
}

// run runs the command to its end. Ctrl-C in a terminal is for it as well, and it
// may have a cluster to delete; TERM is passed on.
func (c kindCommand) run(ctx context.Context) error {
	if len(c.Command) > 1 && c.Command[0] == "--" {
		c.Command = c.Command[1:]
	}
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	cmd := exec.CommandContext(terminated, c.Command[0], c.Command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Env = append(os.Environ(), "KIND_NODE_IMAGE="+c.Image)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	switch code := cmd.ProcessState.ExitCode(); {
	case code > 0:
		return commandEnded(code)
	case code == 0:
		return nil
	}
	return err
}

// commandEnded is the exit code of a command that failed. It has said why.
type commandEnded int

func (c commandEnded) Error() string { return fmt.Sprintf("the command ended with %d", int(c)) }

type nodeImageCommand struct {
	Keep bool `env:"KEEP" help:"Leave Docker running if it is started."`
}

func (c nodeImageCommand) Run(ctx context.Context, out output) error {
	return withDocker(ctx, c.Keep, out, func() error {
		tag, err := nodeimage.Ensure(ctx, out.progress)
		if err == nil {
			fmt.Fprintln(out.result, tag)
		}
		return err
	})
}

type debianCommand struct {
	Or string `default:"debian:12-slim" help:"The image to name where none can be made."`
}

func (c debianCommand) Run(ctx context.Context, out output) error {
	rootfs, err := nodeimage.EnsureRootfs(ctx, out.progress)
	if errors.Is(err, nodeimage.ErrImpossible) {
		fmt.Fprintf(out.progress, "using %s: %v\n", c.Or, err)
		rootfs.Tar, err = c.Or, nil
	}
	if err == nil {
		fmt.Fprintln(out.result, rootfs.Tar)
	}
	return err
}

type checkCommand struct{}

func (checkCommand) Run(ctx context.Context, out output) error {
	if reason := docker.Usable(ctx); reason != nil {
		fmt.Fprintln(out.result, reason)
	}
	return ctx.Err()
}

// withDocker does something with a Docker that answers.
func withDocker(ctx context.Context, keep bool, out output, do func() error) error {
	stop, err := docker.Ensure(ctx, keep, out.progress)
	if err != nil {
		return err
	}
	err = do()
	if stopping := stop(); stopping != nil {
		fmt.Fprintln(out.progress, "airgap:", stopping)
		err = cmp.Or(err, stopping)
	}
	return err
}
