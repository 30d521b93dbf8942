package main

import (
	"io"

	"github.com/studioml/studio-go-runner/fakegpu/capture"
)

type captureRun struct {
	GPU string `arg:"" optional:"" name:"gpu" default:"0" help:"Index or UUID, as nvidia-smi -L has them."`
}

// Run reads the GPUs that smi shows: a real card where no FAKEGPU_STATE is set.
func (c captureRun) Run(cli *cli, out io.Writer) error {
	profile, err := capture.Profile(cli.nvml(), c.GPU)
	if err != nil {
		return err
	}
	_, err = out.Write(profile)
	return err
}
