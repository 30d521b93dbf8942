package report

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
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
		d.Why = brief(s.Location + ": " + s.Deviation())
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
	if err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	_, err = file.Write(append(line, '\n'))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("note progress: %w", err)
	}
	return nil
}

// Screen is where progress is shown.
type Screen struct {
	Out io.Writer
	// Width of a terminal, whose last line is written anew; nil is a plain log,
	// which gets a line for each tenth of the specs.
	Width func() int
}

// Follow shows the progress of a run until in, which is what Ginkgo prints, has
// ended. That is passed on, but for the dots that it writes for specs that pass.
func Follow(ctx context.Context, in io.Reader, artifacts string, screen Screen) error {
	p := &progress{screen: screen, file: filepath.Join(artifacts, ProgressFile)}
	following, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		const often = 200 * time.Millisecond // as quickly as a person would notice
		ticker := time.NewTicker(often)
		defer ticker.Stop()
		for {
			p.look()
			select {
			case <-ticker.C:
			case <-following.Done():
				return
			}
		}
	})
	err := p.pass(in)
	stop()
	looking.Wait()
	p.look()
	p.last()
	return err
}

// progress is what is known of a run.
type progress struct {
	screen Screen
	file   string

	mu      sync.Mutex // guards what follows, and the screen
	read    int64      // bytes of the file
	all     int
	ended   int
	failed  int
	skipped int
	slowest done
	tenth   int    // of all, that a plain log has told
	line    string // that stands on the terminal
}

// pass writes what is read, line by line.
func (p *progress) pass(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if dots := strings.Trim(line, "•S\r\n"); dots != "" || line == "\n" {
			p.write(line)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("follow the run: %w", err)
		}
	}
}

// write puts text above the line of a terminal.
func (p *progress) write(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	_, _ = io.WriteString(p.screen.Out, text)
	if strings.HasSuffix(text, "\n") {
		p.draw()
	}
}

// look reads what the file has more than before.
func (p *progress) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	file, err := os.Open(p.file)
	if err != nil {
		return // nothing has begun yet
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() <= p.read {
		return
	}
	text, _ := io.ReadAll(io.NewSectionReader(file, p.read, 1<<30))
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	p.read += int64(len(text))
	p.clear()
	for line := range bytes.Lines(text) {
		var d done
		if json.Unmarshal(line, &d) == nil {
			p.take(d)
		}
	}
	p.draw()
}

func (p *progress) take(d done) {
	if d.All > 0 {
		p.all, p.ended, p.failed, p.skipped, p.slowest, p.tenth = d.All, 0, 0, 0, done{}, 0 // a run of several begins
		return
	}
	p.ended++
	switch d.Outcome {
	case Failed:
		p.failed++
		fmt.Fprintf(p.screen.Out, "FAILED after %s: %s\n  %s\n", short(d.Length), d.Name, d.Why)
	case Skipped:
		p.skipped++
	}
	if d.Length > p.slowest.Length {
		p.slowest = d
	}
	if tenth := 10 * p.ended / max(1, p.all); p.screen.Width == nil && tenth > p.tenth {
		p.tenth = tenth
		fmt.Fprintln(p.screen.Out, p.text())
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

func (p *progress) clear() {
	if p.line != "" {
		_, _ = io.WriteString(p.screen.Out, "\r\x1b[K")
		p.line = ""
	}
}

func (p *progress) draw() {
	if p.screen.Width == nil || p.all == 0 {
		return
	}
	p.line = p.text()
	if width := cmp.Or(p.screen.Width(), 80); utf8.RuneCountInString(p.line) >= width {
		p.line = string([]rune(p.line)[:max(0, width-2)]) + "…"
	}
	_, _ = io.WriteString(p.screen.Out, p.line)
}

// last takes the line away: what comes after a run says the same.
func (p *progress) last() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}
