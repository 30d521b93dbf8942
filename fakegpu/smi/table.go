package smi

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// The lines of the table, which is 91 characters wide. Their widths are those by
// which scripts cut columns out of it.
const (
	rule     = "+-----------------------------------------+------------------------+----------------------+\n"
	wide     = "+-----------------------------------------------------------------------------------------+\n"
	heads    = "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |\n| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |\n|                                         |                        |               MIG M. |\n|=========================================+========================+======================|\n"
	migRule  = "+------------------+----------------------------------+-----------+-----------------------+\n"
	migHeads = "| MIG devices:                                                                            |\n" + migRule +
		"| GPU  GI  CI  MIG |              Shared Memory-Usage |        Vol|        Shared         |\n|      ID  ID  Dev |                Shared BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |\n|                  |                                  |        ECC|                       |\n|==================+==================================+===========+=======================|\n"
	appHeads = "| Processes:                                                                              |\n|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |\n|        ID   ID                                                               Usage      |\n|=========================================================================================|\n"
	noApps   = "|  No running processes found                                                             |\n"
)

// table prints the summary of GPUs, MIG devices and processes.
func table(lib nvml.Interface, gpus []*gpu, out io.Writer) int {
	driver, r := lib.SystemGetDriverVersion()
	if r != nvml.SUCCESS {
		fmt.Fprintln(out, "Failed to read the driver's version:", lib.ErrorString(r))
		return exitCode(r)
	}
	fmt.Fprintf(out, "%-31s\n%s", time.Now().Format("Mon Jan _2 15:04:05 2006"), wide)
	fmt.Fprintf(out, "| NVIDIA-SMI %-23sDriver Version: %-15sCUDA Version: %-9s|\n%s%s", driver, driver, cuda(lib), rule, heads)
	code := exitSuccess
	for _, g := range gpus {
		for _, row := range g.summary() {
			fmt.Fprint(out, row)
		}
		if _, r := g.GetIndex(); r != nvml.SUCCESS {
			code = exitCode(r)
		}
	}
	fmt.Fprintln(out)
	migTable(gpus, out)
	appTable(gpus, out)
	return code
}

// cell is a value as the table has it: without unit, and N/A or ERR! without
// brackets.
func (g *gpu) cell(name string) string {
	fields, err := pick(gpuFields(), name)
	if err != nil {
		panic(err) // the table asks for a field that there is not
	}
	text, r := fields[0].value(g, false)
	switch {
	case r == nvml.SUCCESS:
		return text
	case unknown(r):
		return "N/A"
	}
	return "ERR!"
}

// with adds a unit to what is a value.
func with(text, unit string) string {
	if text == "N/A" || text == "ERR!" {
		return text
	}
	return text + unit
}

// summary are the lines of a GPU.
func (g *gpu) summary() []string {
	name := g.cell("name")
	if len(name) > 27 {
		name = name[:24] + "..."
	}
	onOff := func(field string) string {
		return strings.NewReplacer("Enabled", "On", "Disabled", "Off").Replace(g.cell(field))
	}
	whole := func(field string) string {
		text, _, _ := strings.Cut(g.cell(field), ".")
		return with(text, "W")
	}
	errors := g.cell("ecc.errors.uncorrected.volatile.total")
	if g.cell("ecc.mode.current") == "Disabled" {
		errors = "Off"
	}
	mig := g.cell("mig.mode.current")
	if mig == "Enabled" {
		errors = "On" // the counters are those of its devices
	}
	mode := strings.NewReplacer("Exclusive_Process", "E. Process", "Exclusive_Thread", "E. Thread").Replace(g.cell("compute_mode"))
	return []string{
		fmt.Sprintf("|%4s  %-27s    %-4s| %18s %3s | %20s |\n", g.cell("index"), name, onOff("persistence_mode"), g.cell("pci.bus_id"), onOff("display_active"), errors),
		fmt.Sprintf("|%4s%6s%6s%16s / %5s |%11s / %9s |%8s%13s |\n",
			with(g.cell("fan.speed"), "%"), with(g.cell("temperature.gpu"), "C"), g.cell("pstate"), whole("power.draw"), whole("enforced.power.limit"),
			with(g.cell("memory.used"), "MiB"), with(g.cell("memory.total"), "MiB"), with(g.cell("utilization.gpu"), "%"), mode),
		fmt.Sprintf("|%41s|%24s|%21s |\n", "", "", mig),
		rule,
	}
}

func migTable(gpus []*gpu, out io.Writer) {
	found := false
	for _, g := range gpus {
		for i, d := range g.migs() {
			if !found {
				fmt.Fprint(out, wide, migHeads)
			}
			found = true
			gi, _ := d.GetGpuInstanceId()
			ci, _ := d.GetComputeInstanceId()
			memory, _ := d.GetMemoryInfo()
			bar, _ := d.GetBAR1MemoryInfo()
			a, _ := d.GetAttributes()
			errors := failed(d.GetMemoryErrorCounter(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC, nvml.MEMORY_LOCATION_SRAM))
			fmt.Fprintf(out, "|%3s%5d%4d%4d  |%19s / %8s    |%3d%7s |%3d%4d%5d%5d%5d |\n", g.cell("index"), gi, ci, i,
				mebibytes(memory.Used)+"MiB", fmt.Sprintf("%5sMiB", mebibytes(memory.Total)), a.MultiprocessorCount, errors,
				a.SharedCopyEngineCount, a.SharedEncoderCount, a.SharedDecoderCount, a.SharedOfaCount, a.SharedJpegCount)
			fmt.Fprintf(out, "|%18s|%19s / %8s    |%11s|%23s|\n%s", "",
				mebibytes(bar.Bar1Used)+"MiB", fmt.Sprintf("%5sMiB", mebibytes(bar.Bar1Total)), "", "", migRule)
		}
	}
	if found {
		fmt.Fprintln(out)
	}
}

// failed is a number, or N/A where there is none.
func failed(n uint64, r nvml.Return) string {
	if r != nvml.SUCCESS {
		return "N/A"
	}
	return decimal(n)
}

func appTable(gpus []*gpu, out io.Writer) {
	fmt.Fprint(out, wide, appHeads)
	found := false
	for _, g := range gpus {
		for _, a := range allApps(g) {
			found = true
			name, r := a.name()
			if r != nvml.SUCCESS {
				name = failure(r)
			}
			if len(name) > 35 {
				name = "..." + name[len(name)-32:]
			}
			memory := "N/A"
			if a.UsedGpuMemory != notAvailable {
				memory = mebibytes(a.UsedGpuMemory) + "MiB"
			}
			fmt.Fprintf(out, "|%5s%s%s%16d%7s   %-36s%10s |\n", g.cell("index"), instance(a.GpuInstanceId, "   N/A", "%5d "), instance(a.ComputeInstanceId, "  N/A", "%4d "), a.Pid, a.kind, name, memory)
		}
	}
	if !found {
		fmt.Fprint(out, noApps)
	}
	fmt.Fprint(out, wide)
}

// instance is the id of an instance, if there is one.
func instance(id uint32, absent, format string) string {
	if id == none {
		return absent
	}
	return fmt.Sprintf(format, id)
}
