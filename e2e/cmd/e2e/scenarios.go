package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/conformance"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/scenario"
)

type scenariosCommand struct{}

// Run looks for mistakes and, where there is none, prints a line for each scenario, and counts.
func (scenariosCommand) Run(k *kong.Context) error {
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		return err
	}
	old, text, err := readme(all)
	if err != nil {
		return err
	}
	if !bytes.Equal(old, text) {
		return fmt.Errorf("%s is not up to date, run make generate", readmeFile)
	}
	return list(k.Stdout, all)
}

func list(out io.Writer, all []scenario.Scenario) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	files, rows, areas, targets := map[string]int{}, map[catalogue.Row]int{}, map[string]int{}, map[scenario.Target]int{}
	for _, s := range all {
		var numbers []string
		for _, row := range s.Rows {
			numbers = append(numbers, strconv.Itoa(int(row)))
			rows[row]++
		}
		for _, target := range s.Targets {
			targets[target]++
		}
		files[s.Path]++
		areas[s.Area]++
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n",
			strings.Join(numbers, ","), s.Area, s.Name, strings.Join(scenario.Words(s.Targets...), ","), s.Location())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d scenarios in %d files show %d rows of %d\nareas: %v\ntargets: %v\n",
		len(all), len(files), len(rows), catalogue.Last, areas, targets)
	return err
}

type generateCommand struct{}

// Run writes what is made from the scenarios, the Go types and the reports of conformance.
func (generateCommand) Run() error {
	all, err := engine.Format.LoadDir("scenarios")
	if err != nil {
		return err
	}
	_, rows, err := readme(all)
	if err != nil {
		return err
	}
	schema, err := engine.Format.Schema("e2e/scenario", "e2e/engine", "e2e/network")
	if err != nil {
		return err
	}
	dir := filepath.Join("e2e", "conformance")
	suite, err := conformance.Load(dir)
	if err != nil {
		return err
	}
	reports, err := conformance.ReadReports(filepath.Join(dir, "reports"))
	if err != nil {
		return err
	}
	for file, text := range map[string][]byte{
		readmeFile: rows, filepath.Join("scenarios", "schema.json"): schema,
		filepath.Join(dir, "MATRIX.md"): []byte(suite.Matrix(reports)),
	} {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
