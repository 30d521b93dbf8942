package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/fakegpu/smi"
)

// nvidiaSMI is the name by which scripts call it.
const nvidiaSMI = "nvidia-smi"

// status is an exit code of which all has been said.
type status int

func (s status) Error() string { return fmt.Sprintf("exit code %d", int(s)) }

type smiRun struct {
	Args []string `arg:"" optional:"" help:"The options of nvidia-smi."`
}

func (s smiRun) Run(c *cli, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if code := smi.Run(ctx, c.nvml(), s.Args, out); code != 0 {
		return status(code)
	}
	return nil
}

// nvml is the library that a program would find here: the fake one where its
// state is named, else that of the machine's driver.
func (c *cli) nvml() nvml.Interface {
	file := c.Library
	if file == "" && os.Getenv(fakegpu.EnvState) != "" {
		if beside, err := c.library(); err == nil {
			file = beside
		}
	}
	if file == "" {
		return nvml.New()
	}
	return nvml.New(nvml.WithLibraryPath(file))
}
