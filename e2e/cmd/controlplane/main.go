// Command controlplane builds the programs of the embedded control plane, etcd
// and kube-apiserver, ahead of the tests that need them.
//
//	go run ./e2e/cmd/controlplane build   # builds what is missing, prints the directory
//	go run ./e2e/cmd/controlplane path    # prints the directory and builds nothing
//
// The directory is the one that KUBEBUILDER_ASSETS names, or one in the user's
// cache directory.
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

	"github.com/studioml/studio-go-runner/e2e/targets/embedded/assets"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// commands are the subcommands; their help is the text of --help.
type commands struct {
	Build struct{} `cmd:"" help:"Build the programs, unless they are there, and print their directory."`
	Path  struct{} `cmd:"" help:"Print the directory without building anything."`
}

// run is the program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	helped := false
	parser, err := kong.New(&commands{}, kong.Name("controlplane"),
		kong.Description("Programs of the embedded control plane: etcd, kube-apiserver, kubectl."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true })) // after --help only
	if err != nil {
		panic(err) // the struct tags are wrong
	}
	chosen, err := parser.Parse(args)
	if helped {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "controlplane:", err)
		return 2
	}
	var dir string
	switch chosen.Command() {
	case "build":
		dir, err = assets.Ensure(ctx, stderr)
	case "path":
		dir, err = assets.Path(ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintln(stderr, "controlplane:", err)
		return 1
	}
	fmt.Fprintln(stdout, dir)
	return 0
}
