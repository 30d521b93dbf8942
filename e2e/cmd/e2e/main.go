// Command e2e is the harness beside its scenarios: it checks and lists their
// files, writes what is made from them (the JSON schema for editors, the catalogue in
// scenarios/README.md and the matrix of conformance), chooses what make e2e runs on, shows
// its progress and makes its page, plays the contract and broken runners, and shows the
// demo of make run. It is run at the root of the repository.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/mutants"
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
	Scenarios   scenariosCommand    `cmd:"" help:"Check the scenario files, and list every scenario, expanded; exit code 1 if anything is wrong."`
	Generate    generateCommand     `cmd:"" help:"Write the schema of scenarios, the table of rows and the matrix of conformance."`
	Target      targetCommand       `cmd:"" help:"Print what make e2e runs on, or say what the machine lacks for it."`
	Report      reportCommand       `cmd:"" help:"Write the HTML page and the summary of a run anew."`
	Progress    progressCommand     `cmd:"" help:"Show how far a run is; what Ginkgo prints is read from standard input."`
	Conformance conformance.Command `cmd:"" help:"Play the contract against any runner, and write a report; exit code 1 if it does not conform."`
	Mutants     mutants.Command     `cmd:"" help:"Break the runner by a rule, one fault at a time, and list the faults that no test notices."`
	Demo        demoCommand         `cmd:"" help:"Watch two runners that kubectl steers, on a control plane of their own."`
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	// Kong calls Exit after --help only; what comes back from Parse then does
	// not matter any more.
	helped := false
	parser, err := kong.New(&commands{}, kong.Name("e2e"), kong.Description("The harness beside its scenarios."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
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
	if err := chosen.Run(); err != nil {
		fmt.Fprintln(stderr, err)
		return exitFailed
	}
	return exitOK
}
