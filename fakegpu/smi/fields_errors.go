package smi

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// ecc are the counters of memory errors.
func ecc() []field[*gpu] {
	fields := []field[*gpu]{
		{names: "ecc.mode.current", help: "Whether the memory corrects errors.", read: pair(nvml.Device.GetEccMode, false, enabled)},
		{names: "ecc.mode.pending", help: "That after the next boot.", read: pair(nvml.Device.GetEccMode, true, enabled)},
	}
	for _, kind := range []struct {
		name string
		is   nvml.MemoryErrorType
	}{{"corrected", nvml.MEMORY_ERROR_TYPE_CORRECTED}, {"uncorrected", nvml.MEMORY_ERROR_TYPE_UNCORRECTED}} {
		for _, period := range []struct {
			name string
			is   nvml.EccCounterType
		}{{"volatile", nvml.VOLATILE_ECC}, {"aggregate", nvml.AGGREGATE_ECC}} {
			prefix := "ecc.errors." + kind.name + "." + period.name + "."
			for _, place := range []struct {
				name, help string
				is         nvml.MemoryLocation
			}{
				{"device_memory", "Errors of the memory.", nvml.MEMORY_LOCATION_DEVICE_MEMORY},
				{"dram", "Errors of the memory.", nvml.MEMORY_LOCATION_DRAM},
				{"register_file", "Errors of the registers.", nvml.MEMORY_LOCATION_REGISTER_FILE},
				{"l1_cache", "Errors of the L1 cache.", nvml.MEMORY_LOCATION_L1_CACHE},
				{"l2_cache", "Errors of the L2 cache.", nvml.MEMORY_LOCATION_L2_CACHE},
				{"texture_memory", "Errors of the texture memory.", nvml.MEMORY_LOCATION_TEXTURE_MEMORY},
				{"cbu", "Errors of the CBU.", nvml.MEMORY_LOCATION_CBU},
				{"sram", "Errors of all SRAM.", nvml.MEMORY_LOCATION_SRAM},
			} {
				fields = append(fields, field[*gpu]{names: prefix + place.name, help: place.help, read: func(g *gpu) (string, nvml.Return) {
					n, r := g.GetMemoryErrorCounter(kind.is, period.is, place.is)
					return decimal(n), r
				}})
			}
			fields = append(fields, field[*gpu]{names: prefix + "total", help: "Errors of the whole GPU.", read: func(g *gpu) (string, nvml.Return) {
				n, r := g.GetTotalEccErrors(kind.is, period.is)
				return decimal(n), r
			}})
		}
	}
	return append(fields, sram()...)
}

// sram tells the uncorrected errors of the SRAM apart.
func sram() []field[*gpu] {
	of := func(name, help string, show func(nvml.EccSramErrorStatus) string) field[*gpu] {
		return field[*gpu]{names: "ecc.errors.uncorrected." + name, help: help,
			read: since("nvmlDeviceGetSramEccErrorStatus", read(nvml.Device.GetSramEccErrorStatus, show))}
	}
	type status = nvml.EccSramErrorStatus
	return []field[*gpu]{
		of("volatile.sram.parity", "Parity errors of the SRAM.", func(s status) string { return decimal(s.VolatileUncParity) }),
		of("volatile.sram.secded", "SEC-DED errors of the SRAM.", func(s status) string { return decimal(s.VolatileUncSecDed) }),
		of("aggregate.sram.parity", "Parity errors of the SRAM.", func(s status) string { return decimal(s.AggregateUncParity) }),
		of("aggregate.sram.secded", "SEC-DED errors of the SRAM.", func(s status) string { return decimal(s.AggregateUncSecDed) }),
		of("aggregate.sram.thresholdExceeded", "Whether there are too many.", func(s status) string { return yes(s.BThresholdExceeded != 0) }),
		of("aggregate.sram.l2", "Those of the L2 cache.", func(s status) string { return decimal(s.AggregateUncBucketL2) }),
		of("aggregate.sram.sm", "Those of multiprocessors.", func(s status) string { return decimal(s.AggregateUncBucketSm) }),
		of("aggregate.sram.mcu", "Those of microcontrollers.", func(s status) string { return decimal(s.AggregateUncBucketMcu) }),
		of("aggregate.sram.pcie", "Those of PCIe.", func(s status) string { return decimal(s.AggregateUncBucketPcie) }),
		of("aggregate.sram.other", "All others.", func(s status) string { return decimal(s.AggregateUncBucketOther) }),
	}
}

// rows are the properties of memory that was taken out of use.
func rows() []field[*gpu] {
	retired := func(cause nvml.PageRetirementCause) func(*gpu) (string, nvml.Return) {
		return func(g *gpu) (string, nvml.Return) {
			pages, r := g.GetRetiredPages(cause)
			return decimal(len(pages)), r
		}
	}
	remapped := func(show func(corrected, uncorrected int, pending, failed bool) string) func(*gpu) (string, nvml.Return) {
		return since("nvmlDeviceGetRemappedRows", func(g *gpu) (string, nvml.Return) {
			corrected, uncorrected, pending, failed, r := g.GetRemappedRows()
			return show(corrected, uncorrected, pending, failed), r
		})
	}
	banks := func(name string, pick func(nvml.RowRemapperHistogramValues) uint32) field[*gpu] {
		return field[*gpu]{names: "remapped_rows.histogram." + name, help: fmt.Sprintf("Banks of which the availability of rows is: %s.", name),
			read: since("nvmlDeviceGetRowRemapperHistogram", read(nvml.Device.GetRowRemapperHistogram, func(h nvml.RowRemapperHistogramValues) string { return decimal(pick(h)) }))}
	}
	return []field[*gpu]{
		{names: "retired_pages.single_bit_ecc.count retired_pages.sbe", help: "Pages that were retired because of corrected errors.",
			read: retired(nvml.PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS)},
		{names: "retired_pages.double_bit.count retired_pages.dbe", help: "Pages that were retired because of uncorrected errors.",
			read: retired(nvml.PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR)},
		{names: "retired_pages.pending", help: "Whether pages wait for the next boot.",
			read: read(nvml.Device.GetRetiredPagesPendingStatus, func(s nvml.EnableState) string { return yes(s == nvml.FEATURE_ENABLED) })},
		{names: "remapped_rows.correctable remapped_rows.sbe", help: "Rows that were remapped because of corrected errors.",
			read: remapped(func(n, _ int, _, _ bool) string { return decimal(n) })},
		{names: "remapped_rows.uncorrectable remapped_rows.dbe", help: "Rows that were remapped because of uncorrected errors.",
			read: remapped(func(_, n int, _, _ bool) string { return decimal(n) })},
		{names: "remapped_rows.pending", help: "Whether rows wait for the next reset.", read: remapped(func(_, _ int, is, _ bool) string { return yes(is) })},
		{names: "remapped_rows.failure", help: "Whether rows could not be remapped.", read: remapped(func(_, _ int, _, is bool) string { return yes(is) })},
		banks("max", func(h nvml.RowRemapperHistogramValues) uint32 { return h.Max }),
		banks("high", func(h nvml.RowRemapperHistogramValues) uint32 { return h.High }),
		banks("partial", func(h nvml.RowRemapperHistogramValues) uint32 { return h.Partial }),
		banks("low", func(h nvml.RowRemapperHistogramValues) uint32 { return h.Low }),
		banks("none", func(h nvml.RowRemapperHistogramValues) uint32 { return h.None }),
	}
}
