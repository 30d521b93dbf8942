package fakegpu

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The files of a state directory.
const (
	stateFile = "state"
	eventFile = "events"
	lockFile  = ".lock"
)

// Remove takes a GPU out of the machine. In all functions a GPU is named by
// its index, its UUID, a beginning of the UUID that is unique, or as "all".
func Remove(dir, gpu string) error {
	return update(dir, "remove fake GPUs", func(m *Machine) error {
		chosen, err := m.find(gpu)
		m.GPUs = slices.DeleteFunc(m.GPUs, func(g GPU) bool { return chosen[g.UUID] })
		return err
	})
}

// Set changes values of a GPU. Each is KEY=VALUE, with a key of Keys or name,
// serial, vbios or part_number. Bytes may be given as 10Gi.
func Set(dir, gpu string, values ...string) error {
	return update(dir, "change fake GPUs", func(m *Machine) error {
		return m.setAll(gpu, values, func(*GPU, change) {})
	})
}

// SetMachine changes the versions of the driver: each is KEY=VALUE with driver,
// nvml or cuda, as 580.95.05 and 13.0. What is not said of NVML follows.
func SetMachine(dir string, values ...string) error {
	return update(dir, "change the machine", func(m *Machine) error {
		set := make(map[string]string)
		for _, v := range values {
			key, value, ok := strings.Cut(v, "=")
			if !ok || value == "" || !slices.Contains([]string{"driver", "nvml", "cuda"}, key) {
				return fmt.Errorf("value is %.120q, must be driver=VERSION, nvml=VERSION or cuda=VERSION", v)
			}
			set[key] = value
		}
		m.Driver = cmp.Or(set["driver"], m.Driver)
		if cuda := set["cuda"]; cuda != "" {
			n, err := parseCUDA(cuda)
			if err != nil {
				return err
			}
			m.CUDA = n
		}
		m.NVML = cmp.Or(set["nvml"], fmt.Sprintf("%d.%s", m.CUDA/1000, m.Driver))
		return nil
	})
}

// parseCUDA reads a version as 13.0, or as NVML has it, 13000.
func parseCUDA(text string) (uint64, error) {
	var major, minor uint64
	if n, err := fmt.Sscanf(text+"$", "%d.%d$", &major, &minor); err == nil && n == 2 && major <= 99 && minor <= 99 {
		return major*1000 + minor*10, nil
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil && n >= 1000 {
		return n, nil
	}
	return 0, fmt.Errorf("cuda is %.120q, must be a version, as 13.0", text)
}

// applicationXids say nothing about the GPU itself, so that the driver asks for
// no recovery after them.
var applicationXids = []uint64{13, 31, 43, 45, 68, 109}

// needsReset is NVML_GPU_RECOVERY_ACTION_GPU_RESET.
const needsReset = 1

// RaiseXid raises an Xid. If it is one about the GPU, the GPU needs a reset
// from now on, which Heal stands for.
func RaiseXid(dir, gpu string, xid uint64) error {
	return RaiseEvent(dir, gpu, eventXid, xid)
}

// RaiseEvent raises an event of nvmlEventType with its data. Instead of a GPU it
// takes the UUID of a MIG device, of whose instances the event is then.
func RaiseEvent(dir, gpu string, kind, data uint64) error {
	raised := make(map[string]event)
	return updateWith(dir, "raise an event", raised, func(m *Machine) error {
		e := event{kind, data, noInstance, noInstance}
		if owner, d, ok := m.instance(gpu); ok {
			gpu, e.gi, e.ci = owner, d.GI, d.CI
		}
		return m.each(gpu, func(g *GPU) error {
			if bits.OnesCount64(kind) != 1 || kind&g.eventTypes() == 0 {
				return fmt.Errorf("%s raises no event %s; its events are %s", g.Name, cmp.Or(eventNames[kind], fmt.Sprint(kind)), namesOf(g.eventTypes()))
			}
			raised[g.UUID] = e
			if kind == eventXid && !slices.Contains(applicationXids, data) {
				g.Numbers["recovery_action"] = max(needsReset, g.Numbers["recovery_action"])
			}
			return nil
		})
	})
}

// CountECC adds memory errors of the DRAM to the counters, by which their event
// is raised.
func CountECC(dir, gpu string, uncorrected bool, errors uint64) error {
	kind := "corrected"
	if uncorrected {
		kind = "uncorrected"
	}
	return update(dir, "count ECC errors", func(m *Machine) error {
		return m.each(gpu, func(g *GPU) error { return g.countECC(kind, errors) })
	})
}

func (g *GPU) countECC(kind string, errors uint64) error {
	if errors == 0 {
		return fmt.Errorf("count of errors is 0, must be 1 or more")
	}
	if g.Numbers["ecc"] == 0 {
		return fmt.Errorf("%s has no ECC memory", g.Name)
	}
	for _, period := range []string{"_volatile", "_aggregate"} {
		key := "ecc_dram_" + kind + period
		if errors > math.MaxUint64-g.Numbers[key] {
			return fmt.Errorf("%s is %d, and %d more is the most that it takes", key, g.Numbers[key], math.MaxUint64-g.Numbers[key])
		}
		g.Numbers[key] += errors
	}
	return nil
}

// Inject adds a fault, for one GPU or, with an empty name, for the machine: for
// all functions whether they are about a GPU or not. A fault of the same
// function is replaced.
func Inject(dir, gpu string, f Fault) error {
	return update(dir, "inject a fault", func(m *Machine) error {
		if err := checkFunction(f.Function, gpu != ""); err != nil {
			return err
		}
		with := func(faults []Fault) []Fault {
			same := func(other Fault) bool { return other.Function == f.Function }
			return append(slices.DeleteFunc(faults, same), f)
		}
		if gpu == "" {
			m.Faults = with(m.Faults)
			return nil
		}
		return m.each(gpu, func(g *GPU) error { g.Faults = with(g.Faults); return nil })
	})
}

// SetInit says what nvmlInit answers.
func SetInit(dir string, code uint64) error {
	return update(dir, "set the answer of nvmlInit", func(m *Machine) error { m.Init = code; return nil })
}

// signs are the keys that tell a sick GPU from a healthy one, but for those that
// a reset does not clear.
var signs = []string{
	"lost", "recovery_action", "remap_pending", "remap_failed", "retired_pending",
	"ecc_dram_corrected_volatile", "ecc_dram_uncorrected_volatile", "ecc_sram_corrected_volatile", "ecc_sram_uncorrected_volatile",
}

// Ailments says what is wrong with a GPU, which is what Heal would end.
func (g GPU) Ailments() []string {
	var list []string
	for _, key := range signs {
		if n := g.Numbers[key]; n != 0 {
			list = append(list, fmt.Sprintf("%s=%d", key, n))
		}
	}
	return append(list, ailments(g.Faults)...)
}

// Ailments says what is wrong with the machine, apart from its GPUs.
func (m Machine) Ailments() []string {
	var list []string
	if m.Init != 0 {
		list = append(list, fmt.Sprintf("init=%d", m.Init))
	}
	return append(list, ailments(m.Faults)...)
}

func ailments(faults []Fault) []string {
	var list []string
	for _, f := range faults {
		list = append(list, fmt.Sprintf("%s answers %d after %d ms", f.Function, f.Code, f.HangMS))
	}
	return list
}

// Heal stands for a repair and a reset: a GPU is not lost any more, has no
// faults and no fresh errors. With "all" the faults of the machine end as well,
// without a GPU these alone.
func Heal(dir, gpu string) error {
	return update(dir, "heal fake GPUs", func(m *Machine) error {
		if gpu == "all" || gpu == "" {
			m.Faults, m.Init = nil, 0
		}
		if gpu == "" {
			return nil
		}
		return m.each(gpu, func(g *GPU) error {
			g.Faults = nil
			for _, key := range signs {
				delete(g.Numbers, key)
			}
			return nil
		})
	})
}

// find returns the UUIDs of the GPUs that a name stands for.
func (m *Machine) find(name string) (map[string]bool, error) {
	chosen := make(map[string]bool)
	if slices.ContainsFunc(m.GPUs, func(g GPU) bool { return g.UUID == name }) {
		return map[string]bool{name: true}, nil // though another UUID may begin with it
	}
	index, err := strconv.Atoi(name)
	for i, g := range m.GPUs {
		if name == "all" || err == nil && i == index || err != nil && name != "" && strings.HasPrefix(g.UUID, name) {
			chosen[g.UUID] = true
		}
	}
	switch {
	case name == "all" || len(chosen) == 1:
		return chosen, nil
	case len(chosen) > 1:
		return nil, fmt.Errorf("GPU %q could be one of %d; write more of the UUID", name, len(chosen))
	}
	return nil, fmt.Errorf("there is no GPU %q; must be an index below %d, a UUID or its beginning, or all", name, len(m.GPUs))
}

func (m *Machine) each(name string, do func(*GPU) error) error {
	chosen, err := m.find(name)
	for i := range m.GPUs {
		if err == nil && chosen[m.GPUs[i].UUID] {
			err = do(&m.GPUs[i])
		}
	}
	return err
}

// update changes the machine of a directory, and raises the events of it; of
// several writers none gets lost.
func update(dir, what string, do func(*Machine) error) error {
	return updateWith(dir, what, nil, do)
}

// updateWith raises events as well that no change tells, by UUID.
func updateWith(dir, what string, raised map[string]event, do func(*Machine) error) error {
	err := locked(dir, func() error {
		m, err := Load(dir)
		if err != nil {
			return err
		}
		before := byUUID(m.GPUs)
		m.settle(time.Now())
		if err = do(&m); err == nil {
			err = m.check()
		}
		if err != nil {
			return err
		}
		cause := func() error { return replace(dir, m) }
		if lines := m.lines(before, raised); lines != "" {
			return journal{dir}.append(lines, cause)
		}
		return cause()
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// replace puts the state file in place in one step, so that no client ever
// reads half of it. Its time of change always grows: the library knows by it
// that there is something to read.
func replace(dir string, m Machine) error {
	name := filepath.Join(dir, stateFile)
	next := filepath.Join(dir, ".state")
	if err := writeNew(next, m.format()); err != nil {
		return err
	}
	now := time.Now()
	if before, err := os.Stat(name); err == nil {
		if !now.After(before.ModTime()) {
			now = before.ModTime().Add(1)
		}
		if err := alike(next, before); err != nil {
			return err
		}
	}
	if err := os.Chtimes(next, now, now); err != nil {
		return err
	}
	return os.Rename(next, name)
}

// writeNew writes a file that is this writer's own: what one that was killed has
// left there, or a link that somebody has put there, is not written into.
func writeNew(path string, text []byte) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

// alike gives a file the owner and the mode of the state: whoever was the last to
// change it, and with which umask, those who could read and write it still can.
func alike(path string, state fs.FileInfo) error {
	if s, ok := state.Sys().(*syscall.Stat_t); ok {
		_ = os.Chown(path, int(s.Uid), int(s.Gid)) // as far as it may
	}
	return os.Chmod(path, state.Mode().Perm())
}
