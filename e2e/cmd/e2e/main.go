// Command e2e is the harness beside its scenarios: it lists and checks their
// files, writes what is made from them (the JSON schema for editors and the
// catalogue in scenarios/README.md), chooses what make e2e runs on, and shows the
// demo of make run. It works from anywhere inside the repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something is wrong with the files or the machine
	exitUsage  = 2 // something is wrong with the command line
)

// commands is the command line.
type commands struct {
	Scenarios   scenariosCommands   `cmd:"" help:"List and check the scenario files, and write what is made from them."`
	Target      targetCommand       `cmd:"" help:"Print what make e2e runs on, or say what the machine lacks for it."`
	Report      reportCommand       `cmd:"" help:"Write the HTML page and the summary of a run anew."`
	Progress    progressCommand     `cmd:"" help:"Show how far a run is; what Ginkgo prints is read from standard input."`
	Conformance conformanceCommands `cmd:"" help:"Play the contract against any runner."`
	Demo        demoCommand         `cmd:"" help:"Watch two runners that kubectl steers, on a control plane of their own."`
}

type scenariosCommands struct {
	Root string `help:"Root of the repository. Default: the nearest directory upwards that has both go.mod and scenarios." type:"existingdir"`

	List      listCommand      `cmd:"" help:"List every scenario, expanded, and count them."`
	Lint      lintCommand      `cmd:"" help:"Check all scenario files; exit code 1 if anything is wrong."`
	Schema    schemaCommand    `cmd:"" help:"Write scenarios/schema.json from the Go types and their comments."`
	Catalogue catalogueCommand `cmd:"" help:"Write the table of rows in scenarios/README.md."`
}

// AfterApply gives the commands below the repository.
func (c scenariosCommands) AfterApply(r *repository) (err error) {
	r.root = c.Root
	return nil
}

// repository is where a command works, and where it prints.
type repository struct {
	root     string
	out      io.Writer
	progress io.Writer
}

// path returns the path of a file of the repository.
func (r *repository) path(elements ...string) string {
	return filepath.Join(append([]string{r.root}, elements...)...)
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	r := &repository{out: stdout, progress: stderr}
	// Kong calls Exit after --help only; what comes back from Parse then does
	// not matter any more.
	helped := false
	parser, err := kong.New(&commands{}, kong.Name("e2e"), kong.Description("The harness beside its scenarios."),
		kong.Bind(r), kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	if err != nil {
		panic(err) // the structs above are wrong
	}
	chosen, err := parser.Parse(args)
	switch {
	case helped:
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "e2e:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	chosen.BindTo(ctx, (*context.Context)(nil))
	if r.root == "" {
		r.root, err = findRoot()
	}
	if err == nil {
		err = chosen.Run()
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}

// findRoot returns the nearest directory upwards that has go.mod and scenarios;
// there are modules inside the repository that have only the first.
func findRoot() (string, error) {
	directory, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		_, noModule := os.Stat(filepath.Join(directory, "go.mod"))
		_, noScenarios := os.Stat(filepath.Join(directory, "scenarios"))
		if errors.Join(noModule, noScenarios) == nil {
			return directory, nil
		}
		parent := filepath.Dir(directory)
		if parent == directory {
			return "", errors.New("find the repository: no directory upwards has go.mod and scenarios, give --root")
		}
		directory = parent
	}
}
