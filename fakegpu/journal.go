package fakegpu

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The bits of nvmlEventType that the library knows; nvml_event.c says which of
// them a model has.
const (
	eventSingleBitECC   = 0x1
	eventDoubleBitECC   = 0x2
	eventPState         = 0x4
	eventXid            = 0x8
	eventClock          = 0x10
	eventMIG            = 0x100
	eventRetirement     = 0x400
	eventRetireFailure  = 0x800
	eventUnavailable    = 0x4000
	eventRecoveryAction = 0x8000
	eventAll            = 0xff9f // nvmlEventTypeAll
)

var eventNames = map[uint64]string{
	eventSingleBitECC: "single-bit-ecc", eventDoubleBitECC: "double-bit-ecc", eventPState: "pstate", eventXid: "xid",
	eventClock: "clock", 0x80: "power-source", eventMIG: "mig", 0x200: "single-bit-ecc-storm", eventRetirement: "dram-retirement",
	eventRetireFailure: "dram-retirement-failure", 0x1000: "nonfatal-poison", 0x2000: "fatal-poison", eventUnavailable: "unavailable",
	eventRecoveryAction: "recovery-action",
}

// namesOf lists the names of types of events.
func namesOf(types uint64) string {
	var names []string
	for kind := uint64(1); kind <= eventAll; kind <<= 1 {
		if name := eventNames[kind]; name != "" && kind&types != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// EventType returns the type of a name.
func EventType(name string) (kind uint64, err error) {
	for kind, known := range eventNames {
		if known == name {
			return kind, nil
		}
	}
	return 0, fmt.Errorf("type of event is %.120q, must be one of %s", name, namesOf(eventAll))
}

// event is one of NVML's, without its GPU: of a GPU instance and a compute
// instance of it, if it is of a MIG device.
type event struct{ kind, data, gi, ci uint64 }

const noInstance = 0xffffffff

// instance finds a MIG device and its GPU by the UUID of it.
func (m *Machine) instance(uuid string) (gpu string, d MIG, ok bool) {
	for _, g := range m.GPUs {
		if i := slices.IndexFunc(g.MIGs, func(d MIG) bool { return d.UUID == uuid }); i >= 0 {
			return g.UUID, g.MIGs[i], true
		}
	}
	return "", d, false
}

// Values of nvmlDeviceArchitecture_t.
const (
	ampere = 7
	hopper = 9
)

// eventTypes are the events that a GPU can raise, as the library advertises them.
func (g GPU) eventTypes() uint64 {
	if g.Numbers["architecture"] >= hopper {
		return eventAll
	}
	types := uint64(eventXid | eventClock | eventRecoveryAction | eventUnavailable)
	if g.slow() != 0 {
		types |= eventPState
	}
	if g.Numbers["ecc"] != 0 {
		types |= eventSingleBitECC | eventDoubleBitECC
		if g.Numbers["architecture"] >= ampere {
			types |= eventRetirement | eventRetireFailure
		}
	}
	if g.Numbers["mig_max"] != 0 {
		types |= eventMIG
	}
	return types
}

// byUUID are copies of some GPUs.
func byUUID(gpus []GPU) map[string]GPU {
	all := make(map[string]GPU, len(gpus))
	for _, g := range gpus {
		all[g.UUID] = g.clone()
	}
	return all
}

// events returns those that a change of a GPU raises.
func (g GPU) events(was GPU) (raised []event) {
	is, before := g.Numbers, was.Numbers
	add := func(kind, data uint64) { raised = append(raised, event{kind, data, noInstance, noInstance}) }
	changed := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return is[key] != before[key] })
	}
	rose := func(keys ...string) bool {
		return slices.ContainsFunc(keys, func(key string) bool { return is[key] > before[key] })
	}
	if rose("ecc_dram_corrected_volatile", "ecc_sram_corrected_volatile") {
		add(eventSingleBitECC, 0)
	}
	if rose("ecc_dram_uncorrected_volatile", "ecc_sram_uncorrected_volatile") {
		add(eventDoubleBitECC, 0)
	}
	if rose("remap_corrected", "remap_uncorrected", "remap_pending") {
		add(eventRetirement, 0)
	}
	if rose("remap_failed") {
		add(eventRetireFailure, 0)
	}
	if changed("pstate") {
		add(eventPState, is["pstate"])
	}
	if changed("clock_graphics", "clock_sm", "clock_memory", "clock_video") {
		add(eventClock, is["clock_sm"])
	}
	if changed("mig_mode") || !slices.Equal(g.MIGs, was.MIGs) {
		add(eventMIG, is["mig_mode"])
	}
	if changed("recovery_action") {
		add(eventRecoveryAction, is["recovery_action"])
	}
	if rose("lost") {
		add(eventUnavailable, 0)
	}
	return raised
}

// lines are those of the journal for a change: the events that were raised, by
// UUID, and those of what has changed.
func (m Machine) lines(before map[string]GPU, raised map[string]event) string {
	var lines strings.Builder
	now := time.Now().UnixMicro()
	for _, g := range m.GPUs {
		was, ok := before[g.UUID]
		if !ok {
			continue // it is new
		}
		events := g.events(was)
		if e, ok := raised[g.UUID]; ok {
			events = slices.Insert(events, 0, e)
		}
		for _, e := range events {
			if e.kind&g.eventTypes() == 0 {
				continue // nobody can ask for it
			}
			fmt.Fprintf(&lines, "%s %d %d %d %d %d\n", g.UUID, e.kind, e.data, e.gi, e.ci, now)
		}
	}
	return lines.String()
}

// journal is the file of events of a directory.
type journal struct{ dir string }

func (j journal) path() string { return filepath.Join(j.dir, eventFile) }

// append changes the state, once the journal is ready for lines, and then writes
// them at its end: who hears of an event finds what has caused it. A new journal gets a title first, by which its
// readers tell it from the one that was there before. What a writer has left that
// was killed in the middle of a line gets an end that no reader takes for an event.
func (j journal) append(lines string, cause func() error) (err error) {
	f, err := os.OpenFile(j.path(), os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if size == 0 {
		lines = fmt.Sprintf("journal %s\n", rand.Text()[:16]) + lines
		state, err := os.Stat(filepath.Join(j.dir, stateFile))
		if err == nil {
			err = alike(j.path(), state)
		}
		if err != nil {
			return err
		}
	} else {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			lines = " torn\n" + lines
		}
	}
	if err := cause(); err != nil {
		return err
	}
	if _, err := f.WriteString(lines); err != nil {
		return errors.Join(err, f.Truncate(size)) // none of them, rather than a part
	}
	return nil
}

// place is where a reader is.
type place struct {
	title string
	file  fs.FileInfo
	read  int64
}

// read returns the events behind a place, a line each, and the place behind them.
func (j journal) read(at place) (behind place, events []string, err error) {
	f, err := openAny(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return place{}, nil, nil
	}
	if err != nil {
		return at, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return at, nil, err
	}
	title, err := bufio.NewReader(io.NewSectionReader(f, 0, 64)).ReadString('\n')
	if err != nil || !strings.HasPrefix(title, "journal ") {
		title = ""
	}
	behind = place{title, info, at.read}
	switch same := at.file != nil && os.SameFile(at.file, info) && at.title == title; {
	case !same || info.Size() < at.read && title == "":
		behind.read = 0
	case info.Size() < at.read: // it was cut: what was told stays told
		behind.read = info.Size()
	}
	for r := bufio.NewReader(io.NewSectionReader(f, behind.read, info.Size()-behind.read)); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return behind, events, nil // the last line was not written yet, or there is none
		}
		behind.read += int64(len(line))
		if uuid, e, ok := parseEvent(line); ok {
			events = append(events, fmt.Sprintf("%s  event %s", uuid, e))
		}
	}
}

// parseEvent reads a line as journal.c does.
func parseEvent(line string) (uuid string, e event, ok bool) {
	words := strings.Fields(line)
	if len(words) != 3 && len(words) != 6 {
		return "", e, false
	}
	e.gi, e.ci = noInstance, noInstance
	all := []any{&uuid, &e.kind, &e.data, &e.gi, &e.ci}
	n := min(len(words), len(all))
	_, err := fmt.Sscan(strings.Join(words[:n], " "), all[:n]...)
	return uuid, e, err == nil
}

// String names the instances of a MIG device as nvidia-smi does.
func (e event) String() string {
	if e.gi == noInstance {
		return e.name()
	}
	return fmt.Sprintf("%s, GI %d CI %d", e.name(), e.gi, e.ci)
}

func (e event) name() string {
	switch e.kind {
	case eventXid:
		return fmt.Sprintf("Xid %d", e.data)
	case eventSingleBitECC:
		return "single bit ECC error"
	case eventDoubleBitECC:
		return "double bit ECC error"
	}
	return fmt.Sprintf("%s %d", cmp.Or(eventNames[e.kind], fmt.Sprintf("type %d,", e.kind)), e.data)
}
