package report

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/onsi/ginkgo/v2/types"
)

// ProgressFile is where the processes of a run say what they have done, a line
// each: what they print themselves, Ginkgo shows when they have ended.
const ProgressFile = "progress.jsonl"

// done is a line of it: how many specs there will be, or one that has ended.
type done struct {
	All     int           `json:"all,omitempty"`
	Name    string        `json:"name,omitempty"`
	Outcome Outcome       `json:"outcome,omitempty"`
	Length  time.Duration `json:"length,omitempty"`
	Why     string        `json:"why,omitempty"`
}

// Begin says how many specs will be played.
func Begin(artifacts string, all int) error { return note(artifacts, done{All: all}) }

// Ended says that a spec has ended.
func Ended(artifacts string, r types.SpecReport) error {
	s, ok := specOf(r)
	if !ok {
		return nil
	}
	d := done{Name: s.Name, Outcome: s.Outcome, Length: s.Length}
	if s.Outcome == Failed {
		d.Why = s.Deviation()
		if file, _, _ := strings.Cut(s.Location, ":"); !strings.Contains(d.Why, file) {
			d.Why = s.Location + ": " + d.Why // what a step says has its line
		}
		d.Why = brief(d.Why)
	}
	return note(artifacts, d)
}

// note appends a line with one write, so that processes do not mix theirs.
func note(artifacts string, d done) error {
	line, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(artifacts, ProgressFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = file.Write(append(line, '\n'))
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	return nil
}

// Follow shows the progress of a run until in, which is what Ginkgo prints, has
// ended. That is passed on, but for the dots that it writes for specs that pass. The
// last line of a terminal is written anew, no wider than width says; nil is a plain
// log, which gets a line for each tenth of the specs.
func Follow(in io.Reader, artifacts string, out io.Writer, width func() int) error {
	p := &progress{out: out, width: width, file: filepath.Join(artifacts, ProgressFile)}
	lines, err := make(chan string), error(nil)
	go func() {
		defer close(lines)
		reader := bufio.NewReader(in)
		for line := ""; err == nil; lines <- line {
			line, err = reader.ReadString('\n')
		}
	}()
	const often = 200 * time.Millisecond // as quickly as a person would notice
	for tick, more := time.Tick(often), true; more; {
		var line string
		select {
		case line, more = <-lines:
			if dots := strings.Trim(line, "•S\r\n"); dots != "" || line == "\n" {
				p.print(line)
			}
		case <-tick:
		}
		p.look()
	}
	p.print("") // what comes after a run says the same as the line
	if err != io.EOF {
		return fmt.Errorf("follow the run: %w", err)
	}
	return nil
}

// progress is what is known of a run, and where it is shown.
type progress struct {
	out   io.Writer
	width func() int
	file  string
	read  int    // bytes of the file
	line  string // that stands on the terminal
	tally
}

type tally struct {
	all, ended, failed, skipped int
	slowest                     done
	tenth                       int // of all, that a plain log has told
}

// print puts text where the line of a terminal is.
func (p *progress) print(text string) {
	if p.line != "" {
		text = "\r\x1b[K" + text
		p.line = ""
	}
	_, _ = io.WriteString(p.out, text)
}

// look shows what the file has more than before, and below it the line of a terminal.
func (p *progress) look() {
	text, _ := os.ReadFile(p.file) // none before anything has begun
	fresh := text[min(p.read, len(text)):]
	fresh = fresh[:bytes.LastIndexByte(fresh, '\n')+1]
	p.read += len(fresh)
	for line := range bytes.Lines(fresh) {
		var d done
		if json.Unmarshal(line, &d) == nil {
			p.take(d)
		}
	}
	if p.width == nil || p.all == 0 {
		return
	}
	line := p.text()
	if width := cmp.Or(p.width(), 80); utf8.RuneCountInString(line) >= width {
		line = string([]rune(line)[:max(0, width-2)]) + "…"
	}
	if line != p.line {
		p.print(line)
		p.line = line
	}
}

func (p *progress) take(d done) {
	if d.All > 0 {
		p.tally = tally{all: d.All} // a run of several begins
		return
	}
	p.ended++
	switch d.Outcome {
	case Failed:
		p.failed++
		p.print(fmt.Sprintf("FAILED after %s: %s\n  %s\n", short(d.Length), d.Name, d.Why))
	case Skipped:
		p.skipped++
	}
	if d.Length > p.slowest.Length {
		p.slowest = d
	}
	if tenth := 10 * p.ended / max(1, p.all); p.width == nil && tenth > p.tenth {
		p.tenth = tenth
		p.print(p.text() + "\n")
	}
}

// text says how far the run is.
func (p *progress) text() string {
	text := fmt.Sprintf("%d of %d done", p.ended, p.all)
	if p.failed > 0 {
		text += fmt.Sprintf(", %d FAILED", p.failed)
	}
	if p.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", p.skipped)
	}
	if p.slowest.Length > 0 {
		text += fmt.Sprintf("; slowest: %s, %s", short(p.slowest.Length), p.slowest.Name)
	}
	return text
}
