// Command target prints the target that make e2e uses, and says on stderr why.
//
//	go run ./e2e/cmd/target         # kind where Docker is usable, else embedded
//	go run ./e2e/cmd/target kind    # that one
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/studioml/studio-go-runner/e2e/docker"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

func main() { os.Exit(run(os.Args[1:], docker.Usable, os.Stdout, os.Stderr)) }

// run prints the target; usable says why Docker is not.
func run(args []string, usable func(context.Context) error, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		if err := usable(context.Background()); err != nil {
			fmt.Fprintf(stderr, "target embedded: %v\n", err)
			fmt.Fprintln(stdout, "embedded")
			return 0
		}
		fmt.Fprintln(stderr, "target kind: Docker is usable; TARGET=embedded needs no Docker and is quicker")
		fmt.Fprintln(stdout, "kind")
		return 0
	}
	if len(args) > 1 || !slices.Contains(scenario.Targets, args[0]) {
		fmt.Fprintf(stderr, "TARGET is %q, allowed are %s\n", strings.Join(args, " "), strings.Join(scenario.Targets, ", "))
		return 1
	}
	fmt.Fprintln(stdout, args[0])
	return 0
}
