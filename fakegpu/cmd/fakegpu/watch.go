package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// interval is how often watch looks: soon enough for a person.
const interval = 50 * time.Millisecond

type watch struct {
	Dir string `arg:"" env:"FAKEGPU_STATE" help:"The state directory."`
}

func (w watch) Run(out io.Writer) error {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	before, err := fakegpu.Load(w.Dir)
	if err != nil {
		return err
	}
	journal, err := w.journal()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s has %d GPUs; waiting for changes\n", w.Dir, len(before.GPUs))
	for {
		select {
		case <-interrupted:
			return nil
		case <-time.After(interval):
		}
		if before, journal, err = w.look(out, before, journal); err != nil {
			return err
		}
	}
}

// look prints what has happened since a state and a place of the journal, and
// returns the next ones. Events come after what caused them: the journal is
// read up to where it ended before the state was read.
func (w watch) look(out io.Writer, before fakegpu.Machine, from int64) (fakegpu.Machine, int64, error) {
	end, err := w.journal()
	if err != nil {
		return before, from, err
	}
	now, err := fakegpu.Load(w.Dir)
	if err != nil {
		return before, from, err
	}
	stamp := time.Now().Format(time.TimeOnly)
	for _, line := range differences(before, now) {
		fmt.Fprintf(out, "%s  %s\n", stamp, line)
	}
	from, err = w.tell(out, stamp, from, end)
	return now, from, err
}

// journal returns where the journal ends now.
func (w watch) journal() (int64, error) {
	info, err := os.Stat(filepath.Join(w.Dir, "events"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// tell prints the events from a place of the journal to another, and returns
// where the next one is.
func (w watch) tell(out io.Writer, stamp string, from, to int64) (int64, error) {
	f, err := os.Open(filepath.Join(w.Dir, "events"))
	if errors.Is(err, fs.ErrNotExist) {
		return from, nil
	}
	if err != nil {
		return from, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return from, err
	}
	for r := bufio.NewReader(io.LimitReader(f, to-from)); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return from, nil // the last line was not written yet, or there is none
		}
		from += int64(len(line))
		var uuid string
		var kind, data uint64
		if n, _ := fmt.Sscan(line, &uuid, &kind, &data); n == 3 {
			fmt.Fprintf(out, "%s  %s  event %s\n", stamp, uuid, eventName(kind, data))
		}
	}
}

func eventName(kind, data uint64) string {
	switch kind {
	case 1:
		return "single bit ECC error"
	case 2:
		return "double bit ECC error"
	case 8:
		return fmt.Sprintf("Xid %d", data)
	}
	return fmt.Sprintf("type %d, data %d", kind, data)
}

// differences says what has changed from one state to the next.
func differences(before, now fakegpu.Machine) []string {
	var lines []string
	if before.Init != now.Init {
		lines = append(lines, fmt.Sprintf("init %d -> %d", before.Init, now.Init))
	}
	lines = append(lines, faults("machine", before.Faults, now.Faults)...)
	byUUID := func(gpus []fakegpu.GPU) map[string]fakegpu.GPU {
		all := make(map[string]fakegpu.GPU)
		for _, g := range gpus {
			all[g.UUID] = g
		}
		return all
	}
	old, current := byUUID(before.GPUs), byUUID(now.GPUs)
	for _, uuid := range slices.Sorted(maps.Keys(old)) {
		if _, ok := current[uuid]; !ok {
			lines = append(lines, uuid+"  removed")
		}
	}
	for _, g := range now.GPUs {
		was, ok := old[g.UUID]
		if !ok {
			lines = append(lines, fmt.Sprintf("%s  added: %s", g.UUID, g.Name))
			continue
		}
		for _, key := range fakegpu.Keys() {
			if was.Numbers[key] != g.Numbers[key] {
				lines = append(lines, fmt.Sprintf("%s  %s %d -> %d", g.UUID, key, was.Numbers[key], g.Numbers[key]))
			}
		}
		if len(was.MIGs) != len(g.MIGs) {
			lines = append(lines, fmt.Sprintf("%s  %d -> %d MIG devices", g.UUID, len(was.MIGs), len(g.MIGs)))
		}
		for _, p := range g.Processes {
			if !slices.Contains(was.Processes, p) {
				lines = append(lines, fmt.Sprintf("%s  process %d (%s, %s) uses %d bytes, %d %%", g.UUID, p.PID, p.Name, p.Type, p.Memory, p.SM))
			}
		}
		for _, p := range was.Processes {
			if !slices.ContainsFunc(g.Processes, func(other fakegpu.Process) bool { return other.PID == p.PID }) {
				lines = append(lines, fmt.Sprintf("%s  process %d is gone", g.UUID, p.PID))
			}
		}
		lines = append(lines, faults(g.UUID, was.Faults, g.Faults)...)
	}
	return lines
}

func faults(what string, before, now []fakegpu.Fault) []string {
	var lines []string
	for _, f := range now {
		if !slices.Contains(before, f) {
			lines = append(lines, fmt.Sprintf("%s  %s answers %d after %d ms", what, f.Function, f.Code, f.HangMS))
		}
	}
	for _, f := range before {
		if !slices.ContainsFunc(now, func(other fakegpu.Fault) bool { return other.Function == f.Function }) {
			lines = append(lines, fmt.Sprintf("%s  %s has no fault any more", what, f.Function))
		}
	}
	return lines
}
