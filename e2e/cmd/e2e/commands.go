package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

type listCommand struct{}

// Run prints a line for each scenario, and counts.
func (listCommand) Run(k *kong.Context) error {
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(k.Stdout, 0, 0, 2, ' ', 0)
	files, rows, areas, targets := map[string]int{}, map[catalogue.Row]int{}, map[string]int{}, map[scenario.Target]int{}
	for _, s := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n",
			numbers(s.Rows), s.Area, s.Name, strings.Join(scenario.Words(s.Targets...), ","), s.Location())
		files[s.Path]++
		areas[s.Area]++
		for _, row := range s.Rows {
			rows[row]++
		}
		for _, target := range s.Targets {
			targets[target]++
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(k.Stdout, "\n%d scenarios in %d files show %d rows of %d\nareas: %s\ntargets: %s\n",
		len(all), len(files), len(rows), catalogue.Last, counts(areas), counts(targets))
	return err
}

// counts writes counts as "drain 3, start 4".
func counts[K ~string](of map[K]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, of[name]))
	}
	return strings.Join(parts, ", ")
}

// numbers writes rows as "1,2".
func numbers(rows []catalogue.Row) string {
	var parts []string
	for _, row := range rows {
		parts = append(parts, strconv.Itoa(int(row)))
	}
	return strings.Join(parts, ",")
}

type lintCommand struct{}

// Run loads everything, which reports all mistakes.
func (lintCommand) Run(k *kong.Context) error {
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		return err
	}
	if _, err := rowsOfTests("."); err != nil {
		return err
	}
	_, err = fmt.Fprintf(k.Stdout, "%d scenarios are fine\n", len(all))
	return err
}

type schemaCommand struct{}

// Run writes the schema.
func (schemaCommand) Run(k *kong.Context) error {
	text, err := engine.Format.Schema("e2e/scenario", "e2e/engine", "e2e/network")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("scenarios", "schema.json"), text, 0o644)
}

type catalogueCommand struct {
	Check bool `help:"Write nothing; exit code 1 if the table is not up to date."`
}

// Run writes the table between the markers, or compares it.
func (c catalogueCommand) Run(k *kong.Context) error {
	shown, err := whatShows(".")
	if err != nil {
		return err
	}
	file := filepath.Join("scenarios", "README.md")
	old, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read catalogue: %w", err)
	}
	text, err := replaceTable(old, table(shown))
	if err != nil {
		return err
	}
	return writeOrCheck(file, text, c.Check, "go run ./e2e/cmd/e2e scenarios catalogue")
}

type conformanceCommands struct {
	Play   conformance.Command `cmd:"" help:"Play the contract against a runner, and write a report; exit code 1 if it does not conform."`
	Matrix matrixCommand       `cmd:"" help:"Write e2e/conformance/MATRIX.md from the reports there."`
}

type matrixCommand struct {
	Check bool `help:"Write nothing; exit code 1 if the page is not up to date."`
}

// Run writes the matrix, or compares it.
func (c matrixCommand) Run() error {
	suite, err := conformance.Load(filepath.Join("e2e", "conformance"))
	if err != nil {
		return err
	}
	reports, err := conformance.ReadReports(filepath.Join("e2e", "conformance", "reports"))
	if err != nil {
		return err
	}
	file, text := filepath.Join("e2e", "conformance", "MATRIX.md"), []byte(suite.Matrix(reports))
	return writeOrCheck(file, text, c.Check, "bin/e2e conformance matrix")
}

// writeOrCheck writes a file, or says with which command if it has another text.
func writeOrCheck(file string, text []byte, check bool, command string) error {
	if !check {
		return os.WriteFile(file, text, 0o644)
	}
	old, err := os.ReadFile(file)
	if err == nil && !bytes.Equal(old, text) {
		err = fmt.Errorf("%s is not up to date, run %s", file, command)
	}
	return err
}
