package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/alecthomas/kong"
	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/term"

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
		return fmt.Errorf("read the report of a run: %s: %w", c.Artifacts, err)
	}
	if len(suites) != 1 || suites[0].StartTime.IsZero() {
		return fmt.Errorf("read the report of a run: %s: report.json is of no run, or of several; run make e2e", c.Artifacts)
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
	return report.Follow(os.Stdin, c.Artifacts, k.Stdout, width(k.Stdout))
}

// width is that of a terminal, which people change, and nil if out is none that can be
// drawn on.
func width(out io.Writer) func() int {
	file, ok := out.(*os.File)
	if name := os.Getenv("TERM"); !ok || name == "" || name == "dumb" || !term.IsTerminal(int(file.Fd())) {
		return nil
	}
	return func() int {
		columns, _, _ := term.GetSize(int(file.Fd())) // an error gives 0
		return columns
	}
}
