package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/studioml/studio-go-runner/runner/api"
)

// table shows the runners: drawn over itself on a terminal, as a line for each
// change of a phase elsewhere.
type table struct {
	demo *demo
	tty  bool

	mu     sync.Mutex
	height int // lines of the table that stand at the bottom of the terminal
	shown  map[string]string
}

func newTable(d *demo) *table {
	return &table{demo: d, tty: term.IsTerminal(int(os.Stdout.Fd())), shown: make(map[string]string)}
}

// say prints text above the table, after what is so until now. It must be
// called without the demo's lock.
func (t *table) say(text string) {
	t.demo.mu.Lock()
	rows := t.demo.rows()
	t.demo.mu.Unlock()
	t.draw(rows)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	fmt.Println(text)
}

// show draws the table whenever something changed, until ctx ends.
func (t *table) show(ctx context.Context) error {
	const pace = 200 * time.Millisecond // as fast as a person can follow
	for {
		t.demo.mu.Lock()
		changed := t.demo.changed
		rows := t.demo.rows()
		t.demo.mu.Unlock()
		t.draw(rows)
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(pace):
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *table) draw(rows []row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.tty {
		for _, r := range rows {
			if text := fmt.Sprintf("%-10s %s", r.runner, r.state); t.shown[r.runner] != text {
				t.shown[r.runner] = text
				fmt.Printf("%s  [%s; %s; GPUs %s]\n", text, r.source, r.tasks, r.gpus)
			}
		}
		return
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\nRUNNER\tSTATE\tSOURCE\tTASKS\tGPUS IN USE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.runner, r.state, r.source, r.tasks, r.gpus)
	}
	_ = w.Flush() // to memory
	t.erase()
	fmt.Print(text.String())
	t.height = strings.Count(text.String(), "\n")
}

// erase removes the table from the terminal.
func (t *table) erase() {
	if t.height > 0 {
		fmt.Printf("\x1b[%dA\x1b[J", t.height)
		t.height = 0
	}
}

// row is a line of the table.
type row struct{ runner, state, source, tasks, gpus string }

// rows must be called with the lock held.
func (d *demo) rows() []row {
	var rows []row
	for _, name := range names {
		s, ok := d.statuses[name]
		if !ok {
			rows = append(rows, row{name, "starting", "-", "-", "-"})
			continue
		}
		r := row{runner: name, state: string(s.Phase), source: string(s.Source)}
		if s.Target != api.Unset {
			r.state += " to " + string(s.Target)
		}
		if s.Shadowed != nil {
			r.source += fmt.Sprintf(" (shadows %s=%s)", s.Shadowed.Source, s.Shadowed.Value)
		}
		if exit, ended := d.exits[name]; ended {
			r.state = fmt.Sprintf("exited with %d", exit.Code)
		}
		r.tasks = fmt.Sprintf("%d running, %d done", s.Tasks.Running, s.Tasks.Succeeded)
		busy := 0
		for _, g := range s.GPUs {
			if g.Task != "" {
				busy++
			}
		}
		r.gpus = fmt.Sprintf("%d of %d", busy, len(s.GPUs))
		rows = append(rows, r)
	}
	return rows
}
