package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/oracle"
	"github.com/studioml/studio-go-runner/runner/api"
)

// Instant is a time of CLOCK_MONOTONIC, which the tasks have as well.
type Instant int64

func now() Instant {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every Linux has it
	}
	return Instant(t.Nano())
}

// Plus is an instant later.
func (i Instant) Plus(d time.Duration) Instant { return i + Instant(d) }

// Record is all that happened.
type Record struct {
	Tasks   []Task
	Notes   []Note
	Lives   []Life
	Writes  []Write
	Struck  []Struck
	Results []api.Result
	Dead    map[string]api.DeadLetter // by ID
	Left    []string                  // what should not be there at the end
}

// Note is what a task wrote down.
type Note struct {
	What    string // start, end, held
	At      Instant
	Task    string
	Attempt int
	Life    string // the runner's name, which each life of a runner has for itself
	Rest    string // GPUs, or -; the exit status; what somebody else holds
}

// Life is one process of a runner.
type Life struct {
	Name       string // unique
	Runner     string // the same for all its lives, and HOSTNAME
	Start, End Instant
	Code       int            // exit code, -1 after a signal
	Killed     syscall.Signal // which
	Message    string         // its termination message
	Sent       []Sent
	Said       []Said
}

// Sent is a signal that the suite sent to a runner.
type Sent struct {
	At     Instant
	Signal syscall.Signal
}

// Said is a status of a runner.
type Said struct {
	At     Instant // when it was received
	Status api.Status
}

// Write is a change of a map. An empty value is one that was deleted.
type Write struct {
	Begin, End Instant
	Map, Value string
	Version    int64
}

// Struck is a strike that happened.
type Struck struct {
	Strike
	Begin, End Instant
	GPU        string // that it was about
}

// effective is what the maps have asked of a runner since the last write that had
// begun by then, in the words of the oracle.
func effective(writes []Write, runner string, at Instant) string {
	global, node := "absent", "absent"
	for _, w := range writes {
		if w.Begin > at {
			continue
		}
		switch w.Map {
		case api.GlobalMapName:
			global = cmp.Or(w.Value, "absent")
		case runner:
			node = cmp.Or(w.Value, "absent")
		}
	}
	return oracle.Predict(global, node).Effective
}

// parseNote reads a line of the journal.
func parseNote(line string) (n Note, err error) {
	_, err = fmt.Sscanf(line, "%s %d %s %d %s %s", &n.What, &n.At, &n.Task, &n.Attempt, &n.Life, &n.Rest)
	if err != nil {
		return Note{}, fmt.Errorf("read note %q: %w", line, err)
	}
	return n, nil
}

// readNotes reads the whole journal.
func readNotes(path string) ([]Note, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var notes []Note
	for lines := bufio.NewScanner(f); lines.Scan(); {
		n, err := parseNote(strings.TrimSpace(lines.Text()))
		if err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, nil
}

// attempt is one start of a task as its notes tell.
type attempt struct {
	Task   string
	Number int
	Life   *Life
	Start  Instant
	GPUs   string
	End    Instant // 0 if it noted none
	Code   string
}

// ended is the latest moment at which it may have run.
func (a *attempt) ended() Instant {
	if a.End != 0 {
		return a.End
	}
	return a.Life.End
}

// attempts puts the notes together, in the order of their starts.
func (r *Record) attempts() []*attempt {
	lives := map[string]*Life{}
	for i := range r.Lives {
		lives[r.Lives[i].Name] = &r.Lives[i]
	}
	var list []*attempt
	open := map[string]*attempt{}
	for _, n := range r.Notes {
		key := fmt.Sprint(n.Task, n.Attempt, n.Life)
		switch n.What {
		case "start":
			open[key] = &attempt{Task: n.Task, Number: n.Attempt, Life: cmp.Or(lives[n.Life], &Life{Name: n.Life}), Start: n.At, GPUs: n.Rest}
			list = append(list, open[key])
		case "end":
			if a := open[key]; a != nil {
				a.End, a.Code = n.At, n.Rest
			}
		}
	}
	return list
}

// during says whether a fault of one of these kinds was on at some time between.
func (r *Record) during(from, to Instant, kinds ...string) bool {
	for _, s := range r.Struck {
		for _, kind := range kinds {
			if strings.HasPrefix(s.Kind, kind) && s.Begin <= to && s.End >= from {
				return true
			}
		}
	}
	return false
}
