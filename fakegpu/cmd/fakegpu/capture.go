package main

import (
	"fmt"
	"io"

	"github.com/studioml/studio-go-runner/fakegpu/capture"
)

type captureRun struct {
	GPU     string `arg:"" optional:"" name:"gpu" default:"0" help:"Index or UUID, as nvidia-smi -L has them."`
	Answers bool   `help:"Instead of a profile print all that NVML answers, a line for each question: to compare a card with its fake."`
}

// Run reads the GPUs that smi shows: a real card where no FAKEGPU_STATE is set.
func (c captureRun) Run(cli *cli, out io.Writer) error {
	if c.Answers {
		lines, err := capture.Answers(cli.nvml(), c.GPU)
		for _, line := range lines {
			fmt.Fprintln(out, line)
		}
		return err
	}
	profile, err := capture.Profile(cli.nvml(), c.GPU)
	fmt.Fprintf(out, "%s", profile)
	return err
}
