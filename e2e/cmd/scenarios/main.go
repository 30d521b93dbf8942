// Command scenarios lists and checks the scenario files, and writes what is
// made from them: the JSON schema for editors and the catalogue in
// scenarios/README.md. It runs from anywhere inside the repository.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // something is wrong with the files
	exitUsage  = 2 // something is wrong with the command line
)

// commands is the command line.
type commands struct {
	Root string `help:"Root of the repository. Default: the nearest directory upwards that has both go.mod and scenarios." type:"existingdir"`

	List      listCommand      `cmd:"" help:"List every scenario, expanded, and count them."`
	Lint      lintCommand      `cmd:"" help:"Check all scenario files; exit code 1 if anything is wrong."`
	Schema    schemaCommand    `cmd:"" help:"Write scenarios/schema.json from the Go types and their comments."`
	Catalogue catalogueCommand `cmd:"" help:"Write the table of rows in scenarios/README.md."`
}

// repository is where a command works, and where it prints.
type repository struct {
	root string
	out  io.Writer
}

// path returns the path of a file of the repository.
func (r *repository) path(elements ...string) string {
	return filepath.Join(append([]string{r.root}, elements...)...)
}

// run is main without the process around it.
func run(args []string, stdout, stderr io.Writer) int {
	var c commands
	// Kong calls Exit after --help only; what comes back from Parse then does
	// not matter any more.
	helped := false
	parser, err := kong.New(&c, kong.Name("scenarios"),
		kong.Description("List and check the scenario files, and write what is made from them."),
		kong.Writers(stdout, stderr), kong.Exit(func(int) { helped = true }))
	if err != nil {
		panic(err) // the struct above is wrong
	}
	chosen, err := parser.Parse(args)
	switch {
	case helped:
		return exitOK
	case err != nil:
		fmt.Fprintln(stderr, "scenarios:", err)
		return exitUsage
	}
	if c.Root == "" {
		c.Root, err = findRoot()
	}
	if err == nil {
		err = chosen.Run(&repository{c.Root, stdout})
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
