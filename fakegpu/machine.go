// Package fakegpu makes and changes the state that the fake libnvidia-ml.so.1
// in this directory shows to its clients. The state is a directory: the file
// state says what the machine is and is replaced in one step, the file events
// is a journal that only grows. Programs that have the library open see a
// change at their next call.
package fakegpu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

//go:generate go run ./gen

// Limits of the library; state.h has the same.
const (
	MaxGPUs      = 64
	maxProcesses = 32
	maxMIGs      = 7
	maxFaults    = 32 // of a GPU, and of the machine
	maxText      = 95
	maxReturn    = 999 // the largest nvmlReturn_t, NVML_ERROR_UNKNOWN
	maxHangMS    = 3600000
	maxCUDA      = math.MaxInt32
	maxFile      = 1<<20 - 1
)

// EnvState names the state directory to the library, EnvTrace a file that gets
// a line for each call and its answer.
const (
	EnvState = "FAKEGPU_STATE"
	EnvTrace = "FAKEGPU_TRACE"
)

// Machine is what a state directory says.
type Machine struct {
	Driver, NVML string // versions
	CUDA         uint64 // as 13000
	Init         uint64 // what nvmlInit answers, an nvmlReturn_t
	Faults       []Fault
	GPUs         []GPU // in NVML's order
}

// GPU is one GPU of a machine.
type GPU struct {
	UUID, Name, Serial, VBIOS, PartNumber string
	InforomImage, InforomECC, InforomOEM  string // versions of the InfoROM, and of two objects in it
	// Numbers are all the rest, by the keys of Keys; what is missing is 0.
	Numbers   map[string]uint64
	Faults    []Fault
	Processes []Process
	MIGs      []MIG
}

// Fault makes a function answer late, or wrong, or both.
type Fault struct {
	Function string // by its full name, or * for all but nvmlInit and nvmlShutdown
	Code     uint64 // the nvmlReturn_t that it answers; 0 is what it would answer anyway
	HangMS   uint64 // how long it takes, in milliseconds
}

// Process is a process that uses a GPU.
type Process struct {
	PID    uint64
	Type   string // compute, graphics or mps
	Memory uint64 // bytes
	SM     uint64 // percent
	Name   string
}

// MIG is a MIG device: one compute instance of a GPU instance.
type MIG struct {
	UUID                       string
	GI, CI                     uint64 // ids of the instances
	Slices, ComputeSlices, SMs uint64
	Memory                     uint64 // bytes
	Profile, Start             uint64 // id of the GPU instance's profile, and its first eighth of the memory
}

const large = math.MaxUint64

// key is a number that a state file can have for a GPU.
type key struct {
	name    string
	largest uint64
}

// Keys lists the numbers that a GPU has, in the order of the file, which is that
// of NUMBERS in state.h. README.md says what they mean.
func Keys() []string {
	var names []string
	for _, k := range keys {
		names = append(names, k.name)
	}
	return names
}

func numbers(largest uint64, names string) (group []key) {
	for name := range strings.FieldsSeq(names) {
		group = append(group, key{name, largest})
	}
	return group
}

const small = math.MaxUint32

var keys = slices.Concat(
	numbers(small, "brand architecture cc_major cc_minor"),
	numbers(0xff, "bus"),
	numbers(small, "minor pci_device pci_subsystem"),
	numbers(63, "numa"),
	numbers(small, "pcie_switch module cores bus_width sms"),
	numbers(large, "memory memory_used memory_reserved bar1 bar1_used"),
	numbers(100, "utilization_gpu utilization_memory utilization_encoder utilization_decoder utilization_jpeg utilization_ofa"),
	numbers(small, "temperature temperature_memory temperature_slowdown temperature_shutdown temperature_max"),
	numbers(16, "fans"),
	numbers(100, "fan_speed"),
	numbers(small, "power power_limit power_default power_min power_max"),
	numbers(large, "energy"),
	numbers(15, "pstate"),
	numbers(small, "clock_graphics clock_sm clock_memory clock_video"),
	numbers(small, "max_clock_graphics max_clock_sm max_clock_memory max_clock_video"),
	numbers(large, "clock_reasons"),
	numbers(6, "pcie_gen pcie_gen_max"),
	numbers(32, "pcie_width pcie_width_max"),
	numbers(small, "pcie_tx pcie_rx pcie_replays"),
	numbers(1, "persistence"),
	numbers(3, "compute_mode"),
	numbers(1, "ecc"),
	numbers(large, "ecc_dram_corrected_volatile ecc_dram_uncorrected_volatile ecc_dram_corrected_aggregate ecc_dram_uncorrected_aggregate"),
	numbers(large, "ecc_sram_corrected_volatile ecc_sram_uncorrected_volatile ecc_sram_corrected_aggregate ecc_sram_uncorrected_aggregate"),
	numbers(small, "remap_corrected remap_uncorrected"),
	numbers(1, "remap_pending remap_failed"),
	numbers(64, "retired_single retired_double"),
	numbers(1, "retired_pending lost"),
	numbers(7, "recovery_action"),
	numbers(18, "nvlinks"),
	numbers(small, "nvlink_version"),
	numbers(1, "mig_mode"),
	numbers(maxMIGs, "mig_max"),
	numbers(small, "mig_sms_1g mig_sms_1g_double mig_sms_2g mig_sms_3g mig_sms_4g mig_sms_7g"),
	numbers(small, "mig_mb_1g mig_mb_1g_double mig_mb_2g mig_mb_3g mig_mb_4g mig_mb_7g"),
	numbers(small, "temperature_memory_max app_clock_graphics app_clock_memory clock_lowest clock_half_steps low_clock_memory low_clock_graphics"),
	numbers(6, "pcie_gen_device"),
	numbers(small, "remap_banks"),
	numbers(3, "addressing"),
	numbers(2, "c2c"),
	numbers(3, "fabric"),
	numbers(1, "accounting"),
	numbers(large, "violation_power violation_thermal since"),
	numbers(small, "clock_lowest_video"),
	numbers(large, "counted_from"),
)

// Load reads the state of a directory.
func Load(dir string) (Machine, error) {
	file := filepath.Join(dir, stateFile)
	f, err := openAny(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Machine{}, fmt.Errorf("read fake GPUs: %w; make some with fakegpu create", err)
	}
	if err != nil {
		return Machine{}, fmt.Errorf("read fake GPUs: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Machine{}, fmt.Errorf("read fake GPUs: %w", err)
	}
	if len(text) > maxFile {
		return Machine{}, fmt.Errorf("read fake GPUs: %s has more than %d bytes; replace it with fakegpu create", file, maxFile)
	}
	m, err := parse(string(text))
	if err != nil {
		return Machine{}, fmt.Errorf("read fake GPUs: %s: %w; replace it with fakegpu create", file, err)
	}
	return m, nil
}

// openAny opens a file to read it, whatever it is: a pipe holds nobody up.
func openAny(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// format writes the text that state.c reads.
func (m Machine) format() []byte {
	var b bytes.Buffer
	line := func(words ...any) { fmt.Fprintln(&b, words...) }
	faults := func(faults []Fault) {
		for _, f := range faults {
			line("fault", f.Function, f.Code, f.HangMS)
		}
	}
	line("driver", m.Driver)
	line("nvml", m.NVML)
	line("cuda", m.CUDA)
	line("init", m.Init)
	faults(m.Faults)
	for _, g := range m.GPUs {
		line("gpu", g.UUID)
		for _, text := range g.texts() {
			if *text.value != "" {
				line(text.key, *text.value)
			}
		}
		for _, k := range keys {
			if n, ok := g.Numbers[k.name]; ok {
				line(k.name, n)
			}
		}
		for _, p := range g.Processes {
			line("process", p.PID, p.Type, p.Memory, p.SM, p.Name)
		}
		for _, d := range g.MIGs {
			line("mig", d.UUID, d.GI, d.CI, d.Slices, d.ComputeSlices, d.SMs, d.Memory, d.Profile, d.Start)
		}
		faults(g.Faults)
	}
	line("end")
	return b.Bytes()
}

type text struct {
	key   string
	value *string
}

func (g *GPU) texts() []text {
	return []text{{"name", &g.Name}, {"serial", &g.Serial}, {"vbios", &g.VBIOS}, {"part_number", &g.PartNumber},
		{"inforom_image", &g.InforomImage}, {"inforom_ecc", &g.InforomECC}, {"inforom_oem", &g.InforomOEM}}
}

// parse reads the text of a state file as strictly as state.c does.
func parse(content string) (Machine, error) {
	var m Machine
	lines := strings.Split(content, "\n")
	if n := len(lines); n < 2 || lines[n-1] != "" || lines[n-2] != "end" {
		return m, fmt.Errorf("does not end with a line that says end")
	}
	for i, l := range lines[:len(lines)-2] {
		key, value, ok := strings.Cut(l, " ")
		if !ok {
			return m, fmt.Errorf("line %d: %.120q has no value", i+1, key)
		}
		if err := m.take(key, value); err != nil {
			return m, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return m, m.check()
}

func (m *Machine) take(key, value string) error {
	switch key {
	case "gpu":
		m.GPUs = append(m.GPUs, GPU{UUID: value, Numbers: make(map[string]uint64)})
		return nil
	case "fault":
		var f Fault
		err := scan(value, &f.Function, &f.Code, &f.HangMS)
		if n := len(m.GPUs); n > 0 {
			m.GPUs[n-1].Faults = append(m.GPUs[n-1].Faults, f)
		} else {
			m.Faults = append(m.Faults, f)
		}
		return err
	}
	if len(m.GPUs) == 0 {
		switch key {
		case "driver":
			return takeText(key, value, &m.Driver)
		case "nvml":
			return takeText(key, value, &m.NVML)
		case "cuda":
			return takeNumber(key, value, maxCUDA, &m.CUDA)
		case "init":
			return takeNumber(key, value, maxReturn, &m.Init)
		}
		return fmt.Errorf("%.120q is no key of a machine", key)
	}
	return m.GPUs[len(m.GPUs)-1].take(key, value)
}

func (g *GPU) take(key, value string) error {
	for _, t := range g.texts() {
		if t.key == key {
			return takeText(key, value, t.value)
		}
	}
	switch key {
	case "process":
		var p Process
		err := scan(value, &p.PID, &p.Type, &p.Memory, &p.SM, &p.Name)
		g.Processes = append(g.Processes, p)
		return err
	case "mig":
		var d MIG
		err := scan(value, &d.UUID, &d.GI, &d.CI, &d.Slices, &d.ComputeSlices, &d.SMs, &d.Memory, &d.Profile, &d.Start)
		g.MIGs = append(g.MIGs, d)
		return err
	}
	largest, ok := largestOf(key)
	if !ok {
		return unknownKey(key)
	}
	var n uint64
	err := takeNumber(key, value, largest, &n)
	g.Numbers[key] = n
	return err
}

// largestOf returns what a number of a GPU may be at most.
func largestOf(key string) (largest uint64, ok bool) {
	for _, k := range keys {
		if k.name == key {
			return k.largest, true
		}
	}
	return 0, false
}

func unknownKey(key string) error {
	return fmt.Errorf("%.120q is no key of a GPU; the keys are %s", key, strings.Join(Keys(), ", "))
}

// takeText and takeNumber check each line for itself, because a later line with
// the same key hides it from check, and not from state.c.
func takeText(key, value string, to *string) error {
	var c checker
	c.text(key, value)
	*to = value
	return c.err
}

func takeNumber(key, value string, largest uint64, to *uint64) error {
	if err := scan(value, to); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	var c checker
	c.number(key, *to, largest)
	return c.err
}

// scan reads words into texts and numbers; the last one, if it is a text, takes
// the rest.
func scan(value string, into ...any) error {
	words := strings.SplitN(value, " ", len(into))
	if len(words) < len(into) {
		return fmt.Errorf("%q has %d words, must have %d", value, len(words), len(into))
	}
	for i, word := range words {
		switch to := into[i].(type) {
		case *string:
			*to = word
		case *uint64:
			n, err := strconv.ParseUint(word, 10, 64)
			if err != nil {
				return fmt.Errorf("%q is no number of up to 64 bits", word)
			}
			*to = n
		}
	}
	return nil
}
