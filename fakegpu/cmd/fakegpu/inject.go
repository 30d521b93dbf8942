package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// inject are the things that can go wrong.
type inject struct {
	Xid          xid      `cmd:"" help:"Raise an Xid, as 48 for a memory error; the GPU goes on answering, whatever it says."`
	Event        happen   `cmd:"" help:"Raise an event of another type, as pstate or mig."`
	ECC          ecc      `cmd:"" name:"ecc" help:"Count memory errors, and raise their event."`
	Lost         lost     `cmd:"" help:"Lose the GPU: everything about it answers GPU_IS_LOST."`
	RemapPending pending  `cmd:"" help:"A row of memory waits to be remapped."`
	RemapFailed  failed   `cmd:"" help:"A row of memory could not be remapped."`
	Error        failure  `cmd:"" help:"Let a function answer with an error."`
	Hang         hang     `cmd:"" help:"Let a function take its time."`
	Init         initCode `cmd:"" help:"Let nvmlInit answer with an error."`
}

type xid struct {
	gpu
	Number uint64 `arg:"" help:"The Xid."`
}

// offTheBus is the Xid of a GPU that has fallen off the bus.
const offTheBus = 79

func (x xid) Run(out io.Writer) error {
	err := fakegpu.RaiseXid(x.Dir, x.GPU, x.Number)
	if err == nil && x.Number == offTheBus {
		fmt.Fprintf(out, "Xid 79 is raised, and the GPU still answers; fakegpu inject lost %s %s lets it fall off the bus\n", x.Dir, x.GPU)
	}
	return err
}

type happen struct {
	gpu
	Type string `arg:"" help:"Its type, as pstate; the error for a wrong one names those that the GPU has."`
	Data uint64 `arg:"" optional:"" help:"Its data, as the number of an Xid."`
}

func (h happen) Run() error {
	kind, err := fakegpu.EventType(h.Type)
	if err != nil {
		return err
	}
	return fakegpu.RaiseEvent(h.Dir, h.GPU, kind, h.Data)
}

type ecc struct {
	gpu
	Uncorrected bool   `help:"Errors that cannot be corrected, instead of ones that were."`
	Count       uint64 `default:"1" help:"How many."`
}

func (e ecc) Run() error { return fakegpu.CountECC(e.Dir, e.GPU, e.Uncorrected, e.Count) }

type lost struct{ gpu }

func (l lost) Run() error { return fakegpu.Set(l.Dir, l.GPU, "lost=1") }

type pending struct{ gpu }

func (p pending) Run() error { return fakegpu.Set(p.Dir, p.GPU, "remap_pending=1") }

type failed struct{ gpu }

func (f failed) Run() error { return fakegpu.Set(f.Dir, f.GPU, "remap_failed=1") }

// whose are the faults of a GPU, or of the machine.
type whose string

// gpu is the GPU, none for the machine.
func (w whose) gpu() string {
	if w == "machine" {
		return ""
	}
	return string(w)
}

// function names what a fault is for.
type function struct {
	Dir      string `arg:"" help:"The state directory."`
	GPU      whose  `arg:"" name:"gpu" help:"Index, UUID, a beginning of the UUID that is unique, all, or machine for calls about no GPU as well."`
	Function string `arg:"" help:"Full name of the function, as nvmlDeviceGetName, or * for all but nvmlInit and nvmlShutdown."`
}

func (f function) inject(code, hangMS uint64) error {
	return fakegpu.Inject(f.Dir, f.GPU.gpu(), fakegpu.Fault{Function: f.Function, Code: code, HangMS: hangMS})
}

type failure struct {
	function
	Code code `arg:"" help:"An nvmlReturn_t by number or name, as 3 or NOT_SUPPORTED."`
}

func (f failure) Run() error { return f.inject(uint64(f.Code), 0) }

type hang struct {
	function
	Duration time.Duration `arg:"" help:"How long, as 5s."`
}

func (h hang) Run() error {
	if h.Duration < 0 || h.Duration > time.Hour {
		return fmt.Errorf("duration is %s; must be 0s to 1h", h.Duration)
	}
	return h.inject(0, uint64(h.Duration.Milliseconds()))
}

type initCode struct {
	Dir  string `arg:"" help:"The state directory."`
	Code code   `arg:"" help:"An nvmlReturn_t by number or name, as 9 or DRIVER_NOT_LOADED."`
}

func (i initCode) Run() error { return fakegpu.SetInit(i.Dir, uint64(i.Code)) }

// code is an nvmlReturn_t.
type code uint64

// UnmarshalText takes a number or the name of nvml.h without NVML_ERROR_.
func (c *code) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 16)
	if err == nil {
		*c = code(n)
		return nil
	}
	name := strings.TrimPrefix(strings.TrimPrefix(string(text), "NVML_"), "ERROR_")
	for number, known := range names {
		if known == name {
			*c = code(number)
			return nil
		}
	}
	return fmt.Errorf("code is %q, must be a number or a name, as GPU_IS_LOST", text)
}

// names are the codes that the driver answers with.
var names = map[nvml.Return]string{
	nvml.SUCCESS: "SUCCESS", nvml.ERROR_UNINITIALIZED: "UNINITIALIZED", nvml.ERROR_INVALID_ARGUMENT: "INVALID_ARGUMENT",
	nvml.ERROR_NOT_SUPPORTED: "NOT_SUPPORTED", nvml.ERROR_NO_PERMISSION: "NO_PERMISSION", nvml.ERROR_NOT_FOUND: "NOT_FOUND",
	nvml.ERROR_INSUFFICIENT_SIZE: "INSUFFICIENT_SIZE", nvml.ERROR_DRIVER_NOT_LOADED: "DRIVER_NOT_LOADED",
	nvml.ERROR_TIMEOUT: "TIMEOUT", nvml.ERROR_IRQ_ISSUE: "IRQ_ISSUE", nvml.ERROR_LIBRARY_NOT_FOUND: "LIBRARY_NOT_FOUND",
	nvml.ERROR_FUNCTION_NOT_FOUND: "FUNCTION_NOT_FOUND", nvml.ERROR_CORRUPTED_INFOROM: "CORRUPTED_INFOROM",
	nvml.ERROR_GPU_IS_LOST: "GPU_IS_LOST", nvml.ERROR_RESET_REQUIRED: "RESET_REQUIRED",
	nvml.ERROR_OPERATING_SYSTEM: "OPERATING_SYSTEM", nvml.ERROR_LIB_RM_VERSION_MISMATCH: "LIB_RM_VERSION_MISMATCH",
	nvml.ERROR_IN_USE: "IN_USE", nvml.ERROR_MEMORY: "MEMORY", nvml.ERROR_NO_DATA: "NO_DATA",
	nvml.ERROR_INSUFFICIENT_RESOURCES: "INSUFFICIENT_RESOURCES", nvml.ERROR_UNKNOWN: "UNKNOWN",
}
