// Command nodeimage makes the images that a kind cluster needs where there is no
// container registry: one for its nodes, and one with Debian for pods. It starts
// Docker if none runs.
//
//	go run ./e2e/cmd/nodeimage         # makes the node image unless Docker has it, prints its name
//	go run ./e2e/cmd/nodeimage debian  # the same for the image for pods
//	go run ./e2e/cmd/nodeimage choose  # the node image that make e2e uses: kind's published one or this
//	go run ./e2e/cmd/nodeimage rootfs  # the same as a file, without Docker
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/docker"
	"github.com/studioml/studio-go-runner/e2e/nodeimage"
	"github.com/studioml/studio-go-runner/e2e/targets/kind"
)

// commands are the subcommands; their help is the text of --help.
type commands struct {
	Keep   bool     `env:"KEEP" help:"Leave Docker running if it is started."`
	Node   struct{} `cmd:"" default:"1" help:"Make the image of a node and print its name."`
	Debian struct{} `cmd:"" help:"Make the base image for pods and print its name."`
	Choose struct{} `cmd:"" help:"Get the node image that make e2e uses, kind's published one or, where that cannot be, ours; print its name."`
	Rootfs struct{} `cmd:"" help:"Make the file that the base image is made from and print its name. This needs no Docker."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	helped := false
	var c commands
	parser, err := kong.New(&c, kong.Name("nodeimage"),
		kong.Description("Images for a kind cluster without a container registry."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true })) // after --help only
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	chosen, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "nodeimage:", err)
		return 2
	}
	tag, err := ensure(ctx, chosen.Command(), c.Keep, stderr)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(stderr, "nodeimage:", err)
		return 1
	}
	fmt.Fprintln(stdout, tag)
	return 0
}

// ensure makes an image unless it is there.
func ensure(ctx context.Context, command string, keep bool, progress io.Writer) (tag string, err error) {
	if command == "rootfs" {
		rootfs, err := nodeimage.EnsureRootfs(ctx, progress)
		return rootfs.Tar, err
	}
	d, err := docker.Ensure(ctx, docker.Options{Keep: keep, Progress: progress})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	switch command {
	case "debian":
		return nodeimage.EnsureDebian(ctx, d, progress)
	case "choose":
		image, err := kind.ChooseNodeImage(ctx, d, progress)
		return image.Name, err
	}
	return nodeimage.Ensure(ctx, d, progress)
}
