package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/alecthomas/kong"
	"github.com/onsi/ginkgo/v2/types"

	"github.com/studioml/studio-go-runner/e2e/report"
)

type reportCommand struct {
	Artifacts string `arg:"" help:"Where a run has left its report.json." type:"existingdir"`
}

// Run writes the page and the summary of a run anew.
func (c reportCommand) Run(k *kong.Context) error {
	text, err := os.ReadFile(filepath.Join(c.Artifacts, "report.json"))
	if err != nil {
		return fmt.Errorf("read the report of a run: %w", err)
	}
	var suites []types.Report
	if err := json.Unmarshal(text, &suites); err != nil {
		return fmt.Errorf("read the report of a run: %w", err)
	}
	if len(suites) != 1 {
		return fmt.Errorf("read the report of a run: it is of %d suites; must be of one", len(suites))
	}
	run, err := report.FromGinkgo(suites[0], c.Artifacts)
	if err := errors.Join(err, run.Write(c.Artifacts)); err != nil {
		return err
	}
	_, err = fmt.Fprintln(k.Stdout, filepath.Join(c.Artifacts, report.PageFile))
	return err
}

type progressCommand struct {
	Artifacts string `arg:"" help:"Where the run says what it has done." type:"existingdir"`
}

// Run passes on what Ginkgo prints, and shows how far it is. Ctrl-C is for Ginkgo:
// this ends when that does.
func (c progressCommand) Run(k *kong.Context) error {
	signal.Ignore(os.Interrupt)
	var width func() int // of a terminal, which people change
	if columns, _ := size(k.Stdout); columns > 0 {
		width = func() int { columns, _ := size(k.Stdout); return columns }
	}
	return report.Follow(os.Stdin, c.Artifacts, k.Stdout, width)
}
