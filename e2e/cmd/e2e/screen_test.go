package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// terminal is a real one, as programs see it, and what a person sees on it.
type terminal struct {
	t             *testing.T
	master, slave *os.File
	columns       int
	lines         []string
	row           int
}

func newTerminal(t *testing.T, columns int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, lines: []string{""}}
	t.Cleanup(func() { master.Close(); slave.Close() })
	term.resize(columns)
	return term
}

// resize breaks lines that no longer fit, as most terminals do.
func (term *terminal) resize(columns int) {
	term.columns = columns
	if err := unix.IoctlSetWinsize(int(term.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: uint16(columns)}); err != nil {
		term.t.Fatal(err)
	}
	var broken []string
	for i, line := range term.lines {
		for len(line) > columns {
			broken = append(broken, line[:columns])
			line = line[columns:]
		}
		broken = append(broken, line)
		if i == term.row {
			term.row = len(broken) - 1
		}
	}
	term.lines = broken
}

// piece is what a terminal is sent: a command of the two that the screen knows, or text.
var piece = regexp.MustCompile(`^(?:\x1b\[(\d*)([AJ])|([^\x1b])|\x1b)`)

// show takes what was printed until now.
func (term *terminal) show() {
	const mark = "\x00"
	if _, err := term.slave.WriteString(mark); err != nil {
		term.t.Fatal(err)
	}
	var text []byte
	for buffer := make([]byte, 4096); !bytes.Contains(text, []byte(mark)); {
		n, err := term.master.Read(buffer)
		if err != nil {
			term.t.Fatal(err)
		}
		text = append(text, buffer[:n]...)
	}
	for rest := strings.TrimSuffix(string(text), mark); rest != ""; {
		found := piece.FindStringSubmatch(rest)
		rest = rest[len(found[0]):]
		switch n, _ := strconv.Atoi(found[1]); {
		case found[2] == "A":
			term.row = max(0, term.row-n)
		case found[2] == "J":
			term.lines = append(term.lines[:term.row], "")
		case found[3] == "\r":
		case found[3] == "\n":
			term.line("")
		case found[3] == "":
			term.t.Fatalf("an unknown command begins with %q", rest[:min(len(rest), 5)])
		case len(term.lines[term.row]) == term.columns:
			term.line(found[3])
		default:
			term.lines[term.row] += found[3]
		}
	}
}

func (term *terminal) line(text string) {
	term.row++
	term.lines = append(term.lines[:term.row], text)
}

// fakeQueue has two finished tasks, and says when it was asked.
type fakeQueue struct {
	targets.Env
	asked chan struct{}
}

func (q fakeQueue) Queue(context.Context) (targets.Contents, error) {
	q.asked <- struct{}{}
	return targets.Contents{{ID: "a-1", State: api.TaskFinished}, {ID: "a-2", State: api.TaskFinished}}, nil
}

// story is what two runners may say at their worst, a step for each drawing.
func story() [][]history.Entry {
	const problem = `ConfigMap "studioml-go-runner": STATE is "Runing", allowed are Running and others; did you mean Running?; ` +
		`and a word that is too long for any line: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`
	says := func(runner string, s api.Status) history.Entry { return history.Entry{Runner: runner, Status: &s} }
	idle := api.Status{Phase: api.PhaseRunning, Source: api.SourceGlobal, GPUs: make([]api.GPU, 4)}
	worst := api.Status{
		Phase: api.PhaseDraining, Target: api.DrainAndTerminate, Source: api.SourceNode,
		Shadowed: &api.Shadowed{Source: api.SourceGlobal, Value: api.DrainAndTerminate},
		Maps:     api.Maps{Global: &api.MapStatus{Problem: problem}}, Tasks: api.TaskCounts{Running: 4, Succeeded: 10000}, GPUs: make([]api.GPU, 4),
	}
	return [][]history.Entry{
		{{Runner: "runner-a", Log: `{"msg":"serving","address":"127.0.0.1:54321"}`}, says("runner-a", idle)},
		{{Output: "$ kubectl get cm " + strings.Repeat("and more ", 15) + "\n"}, says("runner-b", idle), says("runner-a", worst)},
		{says("runner-b", worst)},
		{says("runner-a", idle), {Runner: "runner-b", Exit: &targets.Exit{Message: "drained"}}},
	}
}

func newTestScreen(term *os.File) *screen {
	return &screen{out: term, record: history.New(), addresses: map[string]string{}, told: map[string]string{},
		scenario: scenario.Scenario{File: scenario.File{Runners: map[string]scenario.Runner{"runner-a": {}, "runner-b": {}}}}}
}

// Whatever the runners say, and however wide the terminal is and becomes, the table
// takes the place of the one before, and what was printed above it stays.
func TestTableStaysInItsPlace(t *testing.T) {
	t.Setenv("TERM", "xterm")
	const first = "export KUBECONFIG=/tmp/studio-go-runner-demo-1234567890/studio-go-runner-e2e-1234567890/admin"
	for _, columns := range [][]int{{60}, {80}, {120}, {40}, {120, 60, 80, 120}, {60, 120, 60, 80}} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			term := newTerminal(t, columns[0])
			fmt.Fprintln(term.slave, first)
			s := newTestScreen(term.slave)
			for i, step := range story() {
				for _, e := range step {
					s.record.Add(e)
				}
				s.draw()
				term.show()
				term.resize(columns[min(i+1, len(columns)-1)])
				s.draw()
				term.show()
				all := strings.Join(term.lines, "\n")
				if got := strings.ReplaceAll(all, "\n", ""); !strings.HasPrefix(got, first) {
					t.Errorf("the first line is gone:\n%s", all)
				}
				if n := strings.Count(all, "RUNNER "); n != 1 || strings.Count(all, "queue: ") != 1 {
					t.Errorf("%d tables are there:\n%s", n, all)
				}
			}
			all := strings.Join(term.lines, "\n")
			for _, want := range []string{"127.0.0.1:54321; global", "runner-b  exited with 0", `! ConfigMap "studioml-go-runner"`, "runner-b exited with 0: drained"} {
				if !strings.Contains(strings.ReplaceAll(all, "\n", ""), want) { // a terminal breaks what stands above the table
					t.Errorf("%q is not in\n%s", want, all)
				}
			}
		})
	}
}

// The last that a scenario tells is shown, and the queue, which tells nothing by itself.
func TestDuring(t *testing.T) {
	t.Setenv("TERM", "xterm")
	term := newTerminal(t, 80)
	s := newTestScreen(term.slave)
	asked := make(chan struct{})
	s.env = fakeQueue{asked: asked}
	err := s.during(t.Context(), func(_ context.Context, _ targets.Env, _ scenario.Scenario, record *history.History) error {
		<-asked
		record.Add(history.Entry{Output: "the end\n"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	term.show()
	if all := strings.Join(term.lines, "\n"); !strings.Contains(all, "the end\nRUNNER ") || !strings.Contains(all, "queue: 0 waiting, 0 running, 2 finished, 0 dead") {
		t.Errorf("it is\n%s", all)
	}
}

// A terminal that is gone ends it, also where nobody sends a signal.
func TestTerminalIsGone(t *testing.T) {
	t.Setenv("TERM", "xterm")
	term := newTerminal(t, 80)
	s := newTestScreen(term.slave)
	s.env = fakeQueue{asked: make(chan struct{}, 1)}
	term.master.Close()
	err := s.during(t.Context(), func(ctx context.Context, _ targets.Env, _ scenario.Scenario, record *history.History) error {
		record.Add(history.Entry{Output: "a word\n"})
		<-ctx.Done()
		return nil
	})
	if !errors.Is(err, unix.EIO) {
		t.Errorf("got %v", err)
	}
}

// Where nothing can be drawn over, each change is a line, once.
func TestLinesInstead(t *testing.T) {
	for name, value := range map[string]string{"no terminal": "xterm", "a dumb one": "dumb"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TERM", value)
			out, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			to, term := out, newTerminal(t, 80)
			if value == "dumb" {
				to = term.slave
			}
			s := newTestScreen(to)
			for _, step := range append(story(), story()[3][:1]) {
				for _, e := range step {
					s.record.Add(e)
				}
				s.draw()
			}
			term.show()
			all := strings.Join(term.lines, "\n")
			if value != "dumb" {
				text, err := os.ReadFile(out.Name())
				if err != nil {
					t.Fatal(err)
				}
				all = string(text)
			}
			for _, want := range []string{"runner-a  Running; global\n", "runner-a  Draining to DrainAndTerminate; node, shadows global DrainAndTerminate\n", "did you mean Running?", "$ kubectl get cm"} {
				if !strings.Contains(all, want) {
					t.Errorf("%q is not in\n%s", want, all)
				}
			}
			if strings.Contains(all, "\x1b") || strings.Count(all, "runner-a  Running") != 2 || strings.Contains(all, "RUNNER ") {
				t.Errorf("it is\n%s", all)
			}
		})
	}
}
