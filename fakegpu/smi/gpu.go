package smi

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// gpu is a GPU that is to be shown.
type gpu struct {
	nvml.Device
	lib   nvml.Interface
	count int       // of the machine
	asked time.Time // when
}

// choose returns the GPUs with these names, or all, in NVML's order. It says
// which of them do not answer, and with which exit code that ends.
func choose(lib nvml.Interface, names []string, out io.Writer) (gpus []*gpu, code int) {
	count, r := lib.DeviceGetCount()
	if r != nvml.SUCCESS {
		fmt.Fprintln(out, "Failed to count the GPUs:", lib.ErrorString(r))
		return nil, exitCode(r)
	}
	now := time.Now()
	found := map[string]bool{} // a name of none beside one of some is ignored
	lost := false
	for i := range count {
		device, r := lib.DeviceGetHandleByIndex(i)
		lost = lost || r == nvml.ERROR_GPU_IS_LOST
		if r != nvml.SUCCESS {
			if len(names) == 0 || slices.Contains(names, strconv.Itoa(i)) {
				fmt.Fprintf(out, "Unable to determine the device handle for GPU%d: %s\n", i, lib.ErrorString(r))
				found[strconv.Itoa(i)] = true
				code = exitCode(r)
			}
			continue
		}
		g := &gpu{Device: device, lib: lib, count: count, asked: now}
		mine := names
		if len(names) > 0 {
			mine = g.among(i, names)
		}
		if len(names) > 0 && len(mine) == 0 {
			continue
		}
		for _, name := range mine {
			found[name] = true
		}
		gpus = append(gpus, g)
	}
	for _, name := range names {
		if _, index := strconv.Atoi(name); !found[name] && lost && index != nil { // as NVML answers
			fmt.Fprintf(out, "Unable to determine the device handle for %s: %s\n", name, lib.ErrorString(nvml.ERROR_GPU_IS_LOST))
			return nil, exitCode(nvml.ERROR_GPU_IS_LOST)
		}
	}
	return gpus, code
}

// among returns the names that mean this GPU.
func (g *gpu) among(index int, names []string) (mine []string) {
	uuid, _ := g.GetUUID()
	serial, _ := g.GetSerial()
	pci, _ := g.GetPciInfo()
	for _, name := range names {
		switch {
		case name == "":
		case name == strconv.Itoa(index), name == uuid, name == serial,
			strings.EqualFold(name, chars(pci.BusId[:])), strings.EqualFold(name, chars(pci.BusIdLegacy[:])):
			mine = append(mine, name)
		}
	}
	return mine
}

// value asks for one of NVML's field values.
func (g *gpu) value(id, scope uint32) (uint64, nvml.Return) {
	values := []nvml.FieldValue{{FieldId: id, ScopeId: scope}}
	if r := g.GetFieldValues(values); r != nvml.SUCCESS {
		return 0, r
	}
	switch v := values[0]; nvml.Return(v.NvmlReturn) {
	case nvml.SUCCESS:
		raw := binary.NativeEndian.Uint64(v.Value[:])
		if nvml.ValueType(v.ValueType) == nvml.VALUE_TYPE_UNSIGNED_INT {
			raw &= 1<<32 - 1 // the rest is not written
		}
		return raw, nvml.SUCCESS
	case nvml.ERROR_INVALID_ARGUMENT: // a driver that does not know it
		return 0, nvml.ERROR_NOT_SUPPORTED
	default:
		return 0, nvml.Return(v.NvmlReturn)
	}
}

// byID makes the reader of a field value.
func byID(id uint32, show func(uint64) string) func(*gpu) (string, nvml.Return) {
	return func(g *gpu) (string, nvml.Return) {
		v, r := g.value(id, 0)
		return show(v), r
	}
}

// since reads what older drivers have no function for. A call to one that is
// missing would end the process.
func since(function string, read func(*gpu) (string, nvml.Return)) func(*gpu) (string, nvml.Return) {
	return func(g *gpu) (string, nvml.Return) {
		if g.lib.Extensions().LookupSymbol(function) != nil {
			return "", nvml.ERROR_FUNCTION_NOT_FOUND
		}
		return read(g)
	}
}
