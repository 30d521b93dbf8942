package fakegpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// watchInterval is how often Watch looks: soon enough for a person.
const watchInterval = 50 * time.Millisecond

// Watch prints each change and each event of a state directory until ctx ends.
func Watch(ctx context.Context, dir string, out io.Writer) error {
	j := journal{dir}
	before, err := Load(dir)
	if err != nil {
		return err
	}
	at, _, err := j.read(place{})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s has %d GPUs; waiting for changes\n", dir, len(before.GPUs))
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchInterval):
		}
		if before, at, err = j.look(out, before, at); err != nil {
			return err
		}
	}
}

// look prints what has happened since a state and a place of the journal, and
// returns the next ones. Events come after what caused them: the journal is read
// before the state.
func (j journal) look(out io.Writer, before Machine, at place) (Machine, place, error) {
	behind, events, err := j.read(at)
	if err != nil {
		return before, at, err
	}
	now, err := Load(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return before, at, nil // until it is made again
	}
	if err != nil {
		return before, at, err
	}
	stamp := time.Now().Format(time.TimeOnly)
	for _, line := range append(differences(before, now), events...) {
		fmt.Fprintf(out, "%s  %s\n", stamp, line)
	}
	return now, behind, nil
}

// differences says what has changed from one state to the next.
func differences(before, now Machine) []string {
	var lines []string
	if before.Init != now.Init {
		lines = append(lines, fmt.Sprintf("init %d -> %d", before.Init, now.Init))
	}
	versions := func(m Machine) []text {
		cuda := strconv.FormatUint(m.CUDA, 10)
		return []text{{"driver", &m.Driver}, {"nvml", &m.NVML}, {"cuda", &cuda}}
	}
	lines = append(lines, textChanges("machine", versions(before), versions(now))...)
	lines = append(lines, faultChanges("machine", before.Faults, now.Faults)...)
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
		lines = append(lines, textChanges(g.UUID, was.texts(), g.texts())...)
		if was, is := was.divided(), g.divided(); was != is {
			lines = append(lines, textChange(g.UUID, "MIG devices", was, is))
		}
		for _, key := range Keys() {
			if was.Numbers[key] != g.Numbers[key] && !g.grows(key, was.Numbers[key]) {
				lines = append(lines, fmt.Sprintf("%s  %s %d -> %d", g.UUID, key, was.Numbers[key], g.Numbers[key]))
			}
		}
		for _, p := range g.Processes {
			if !slices.Contains(was.Processes, p) {
				lines = append(lines, fmt.Sprintf("%s  process %d (%s, %s) uses %d bytes, %d %%", g.UUID, p.PID, p.Name, p.Type, p.Memory, p.SM))
			}
		}
		for _, p := range was.Processes {
			if !slices.ContainsFunc(g.Processes, func(other Process) bool { return other.PID == p.PID && other.Type == p.Type }) {
				lines = append(lines, fmt.Sprintf("%s  process %d is gone", g.UUID, p.PID))
			}
		}
		lines = append(lines, faultChanges(g.UUID, was.Faults, g.Faults)...)
	}
	return lines
}

// divided names the MIG devices of a GPU.
func (g GPU) divided() string {
	var devices []string
	for _, d := range g.MIGs {
		devices = append(devices, g.MIGName(d))
	}
	return strings.Join(devices, " ")
}

func textChanges(what string, before, now []text) []string {
	var lines []string
	for i, t := range now {
		if was := *before[i].value; was != *t.value {
			lines = append(lines, textChange(what, t.key, was, *t.value))
		}
	}
	return lines
}

func textChange(what, key, before, now string) string {
	return fmt.Sprintf("%s  %s %s -> %s", what, key, cmp.Or(before, "none"), cmp.Or(now, "none"))
}

// grows tells whether a number is more than it was by itself alone: each change
// of any GPU writes such counters down as they are then.
func (g GPU) grows(key string, was uint64) bool {
	switch key {
	case "since", "counted_from":
		return true
	case "energy", "violation_power", "violation_thermal":
		return g.Numbers["since"] != 0 && g.Numbers[key] > was
	}
	return false
}

func faultChanges(what string, before, now []Fault) []string {
	var lines []string
	for _, f := range now {
		if !slices.Contains(before, f) {
			lines = append(lines, fmt.Sprintf("%s  %s answers %d after %d ms", what, f.Function, f.Code, f.HangMS))
		}
	}
	for _, f := range before {
		if !slices.ContainsFunc(now, func(other Fault) bool { return other.Function == f.Function }) {
			lines = append(lines, fmt.Sprintf("%s  %s has no fault any more", what, f.Function))
		}
	}
	return lines
}
