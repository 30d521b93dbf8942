// Package capture reads a GPU through NVML and writes the profile of a fake one
// that is like it.
package capture

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// Profile reads the GPU with an index or UUID and returns a profile that
// fakegpu.LoadProfile takes. What NVML does not know of it is left out.
func Profile(lib nvml.Interface, gpu string) ([]byte, error) {
	if r := lib.Init(); r != nvml.SUCCESS {
		return nil, fmt.Errorf("start NVML: %s; is there a driver, or a FAKEGPU_STATE with GPUs?", nvml.ErrorString(r))
	}
	defer lib.Shutdown()
	device, err := find(lib, gpu)
	if err != nil {
		return nil, err
	}
	if mode, _, r := device.GetMigMode(); r == nvml.SUCCESS && mode == nvml.DEVICE_MIG_ENABLE {
		return nil, fmt.Errorf("GPU %s is divided into MIG devices, and hides what it is; switch MIG off first", gpu)
	}
	name, _ := device.GetName()
	driver, _ := lib.SystemGetDriverVersion()
	head := fmt.Sprintf("# %s.\n# *: fakegpu capture, through NVML of driver %s on %s.\n", name, driver, time.Now().UTC().Format(time.DateOnly))
	has := func(function string) bool { return lib.Extensions().LookupSymbol(function) == nil }
	var lines []line
	for _, f := range slices.Concat(texts(), figures(has), clocks(), instances(), rest()) {
		if f.needs != "" && !has(f.needs) {
			continue // a call to it would end the process
		}
		value, r := f.read(device)
		if missing(r) {
			value, r = uint64(0), nvml.SUCCESS
		}
		if r != nvml.SUCCESS {
			return nil, fmt.Errorf("read %s of GPU %s: %s", f.key, gpu, nvml.ErrorString(r))
		}
		if !f.zero(value) || slices.Contains(chosen, f.key) {
			lines = append(lines, line{f.key, value})
		}
	}
	return fit(head, lines)
}

// line is a key of a profile and its value.
type line struct {
	key   string
	value any
}

func format(head string, lines []line) ([]byte, error) {
	b := bytes.NewBufferString(head)
	for _, l := range lines {
		text, err := yaml.Marshal(map[string]any{l.key: l.value})
		if err != nil {
			return nil, err
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}

// fit lets those figures follow the others that change while a card is read: it
// takes more than its limit for a moment, or a clock is between two that it
// supports.
func fit(head string, lines []line) ([]byte, error) {
	profile, err := format(head, lines)
	if err != nil {
		return nil, err
	}
	free := []string{"app_clock_graphics", "app_clock_memory"}
	for _, f := range rest() {
		free = append(free, f.key)
	}
	numbers, err := fakegpu.Fit(profile, free...)
	if err != nil {
		return fmt.Appendf(profile, "# fakegpu create refuses this: %v\n", err), nil
	}
	for i, l := range lines {
		if n, ok := numbers[l.key]; ok && slices.Contains(free, l.key) {
			lines[i].value = n
		}
	}
	return format(head, lines)
}

// find takes an index or a UUID.
func find(lib nvml.Interface, gpu string) (nvml.Device, error) {
	if strings.HasPrefix(gpu, "GPU-") {
		device, r := lib.DeviceGetHandleByUUID(gpu)
		if r != nvml.SUCCESS {
			return nil, fmt.Errorf("find GPU %s: %s; nvidia-smi -L lists them", gpu, nvml.ErrorString(r))
		}
		return device, nil
	}
	var index int
	if n, err := fmt.Sscanf(gpu+" end", "%d end", &index); n != 1 || err != nil {
		return nil, fmt.Errorf("GPU is %.120q, must be an index or a UUID; nvidia-smi -L lists them", gpu)
	}
	device, r := lib.DeviceGetHandleByIndex(index)
	if r != nvml.SUCCESS {
		return nil, fmt.Errorf("find GPU %d: %s; nvidia-smi -L lists them", index, nvml.ErrorString(r))
	}
	return device, nil
}

// missing tells whether a GPU does not have something at all.
func missing(r nvml.Return) bool {
	return r == nvml.ERROR_NOT_SUPPORTED || r == nvml.ERROR_FUNCTION_NOT_FOUND || r == nvml.ERROR_INVALID_ARGUMENT || r == nvml.ERROR_DEPRECATED
}

// figure is a key of a profile.
type figure struct {
	key   string
	read  func(nvml.Device) (any, nvml.Return)
	needs string // a function that older drivers do not have
}

// zero tells whether a value says nothing.
func (f figure) zero(value any) bool { return value == uint64(0) || value == "" }

// chosen are the keys that fakegpu makes up where a profile does not have them:
// of those a profile says 0.
var chosen = []string{
	"temperature_memory", "app_clock_graphics", "app_clock_memory", "pstate", "clock_reasons", "fan_speed", "persistence", "bar1_used",
}

// since is a figure for which older drivers have no function.
func since(function string, f figure) figure {
	f.needs = function
	return f
}

// of reads a figure that one call gives.
func of[V ~int | ~int32 | ~uint8 | ~uint32 | ~uint64](key string, get func(nvml.Device) (V, nvml.Return)) figure {
	return figure{key: key, read: func(d nvml.Device) (any, nvml.Return) {
		v, r := get(d)
		return uint64(v), r
	}}
}
