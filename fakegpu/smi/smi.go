// Package smi answers as nvidia-smi does, from NVML alone: the list, the table
// and the selective queries, with the names, units and exit codes by which
// scripts know them. What it reads may be fake GPUs or real ones.
package smi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// Exit codes are the ones that nvidia-smi documents: those of NVML, but for all
// that it names "other", and the one that it ends with where versions differ.
const (
	exitSuccess  = 0
	exitInvalid  = 2
	exitNotFound = 6
	exitOther    = 255
)

// exitCode is the exit code for an answer of NVML.
func exitCode(r nvml.Return) int {
	switch r {
	case nvml.SUCCESS, nvml.ERROR_INVALID_ARGUMENT, nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_NO_PERMISSION, nvml.ERROR_NOT_FOUND,
		nvml.ERROR_INSUFFICIENT_POWER, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_IRQ_ISSUE, nvml.ERROR_LIBRARY_NOT_FOUND,
		nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_CORRUPTED_INFOROM, nvml.ERROR_GPU_IS_LOST,
		nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return int(r)
	}
	return exitOther
}

// Run runs one command line and returns the exit code. All goes to out, as with
// nvidia-smi, errors as well. A loop ends with the context.
func Run(ctx context.Context, lib nvml.Interface, args []string, out io.Writer) int {
	o, err := parse(args)
	if err != nil {
		fmt.Fprintln(out, err)
		if m, ok := errors.AsType[mistake](err); ok {
			return m.code
		}
		return exitInvalid
	}
	if o.file != "" {
		f, err := os.Create(o.file)
		if err != nil {
			fmt.Fprintf(out, "Failed to open the file of --filename: %v\n", err)
			return exitInvalid
		}
		defer f.Close()
		out = f
	}
	if help := o.help(); help != nil {
		help(out)
		return exitSuccess
	}
	if r := lib.Init(); r != nvml.SUCCESS {
		fmt.Fprintln(out, noNVML(r, lib))
		return exitCode(r)
	}
	defer lib.Shutdown()
	return o.loop(ctx, func(first bool) int {
		gpus, code := choose(lib, o.ids, out)
		if len(gpus) == 0 {
			if code == exitSuccess {
				fmt.Fprintln(out, "No devices were found")
				return exitNotFound
			}
			return code
		}
		if shown := o.show(lib, gpus, first, out); shown != exitSuccess {
			return shown
		}
		return code
	})
}

// show prints what was asked for, once.
func (o options) show(lib nvml.Interface, gpus []*gpu, first bool, out io.Writer) int {
	switch {
	case o.version:
		return version(lib, out)
	case o.list:
		return list(gpus, out)
	case o.gpuFields != nil:
		return csv(o.gpuFields, gpus, o.format, first, out)
	case o.appFields != nil:
		apps, r := computeApps(gpus)
		return max(csv(o.appFields, apps, o.format, first, out), exitCode(r))
	}
	return table(lib, gpus, out)
}

// loop shows something once, or until the context ends.
func (o options) loop(ctx context.Context, show func(first bool) int) int {
	code := show(true)
	if o.every == 0 {
		return code
	}
	ticker := time.NewTicker(o.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return code
		case <-ticker.C:
			code = show(false)
		}
	}
}

// noNVML says why there is nothing to show.
func noNVML(r nvml.Return, lib nvml.Interface) string {
	switch r {
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver is properly installed and present in your system.\n" +
			"Please also try adding directory that contains libnvidia-ml.so to your system PATH."
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n"
	}
	return "Failed to initialize NVML: " + lib.ErrorString(r)
}

func version(lib nvml.Interface, out io.Writer) int {
	driver, r := lib.SystemGetDriverVersion()
	if r != nvml.SUCCESS {
		return exitCode(r)
	}
	library, r := lib.SystemGetNVMLVersion()
	if r != nvml.SUCCESS {
		return exitCode(r)
	}
	if parts := strings.Split(library, "."); len(parts) > 2 { // the first is CUDA's, the last a build
		library = parts[1] + "." + parts[2]
	}
	fmt.Fprintf(out, "NVIDIA-SMI version  : %s\nNVML version        : %s\nDRIVER version      : %s\nCUDA Version        : %s\n",
		driver, library, driver, cuda(lib))
	return exitSuccess
}

// cuda is the version of CUDA that the driver supports.
func cuda(lib nvml.Interface) string {
	v, r := lib.SystemGetCudaDriverVersion()
	if r != nvml.SUCCESS {
		return "N/A"
	}
	return fmt.Sprintf("%d.%d", v/1000, v%1000/10)
}
