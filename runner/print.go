package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Printing is how a command prints what it finds. Commands embed it.
type Printing struct {
	Output string `short:"o" enum:"${formats}" default:"table" help:"How to print: ${enum}."`
	Watch  bool   `short:"w" help:"${watch}; as JSON it is one line each."`
}

// view is what can be printed: as a document, or as rows for people.
type view interface{ rows(t table) }

// show prints the first of what looks finds or, to who watches, each that differs from
// the one before. One may come with an error, as where not all that was named is known.
func (p *Printing) show(out io.Writer, looks iter.Seq2[view, error]) error {
	var before view
	for v, err := range looks {
		if v != nil && !reflect.DeepEqual(v, before) {
			err = errors.Join(p.print(out, v), err)
		}
		if before = v; err != nil || !p.Watch {
			return err
		}
	}
	return nil
}

func (p *Printing) print(out io.Writer, v view) error {
	switch p.Output {
	case "json":
		encoder := json.NewEncoder(out)
		if !p.Watch {
			encoder.SetIndent("", "  ")
		}
		return encoder.Encode(v)
	case "yaml":
		text, err := yaml.Marshal(v)
		if err == nil && p.Watch {
			_, err = io.WriteString(out, "---\n")
		}
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	t := table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0), p.Output}
	v.rows(t)
	if p.Watch {
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// table is for people, and for awk: no cell is empty.
type table struct {
	*tabwriter.Writer
	format string
}

// row prints cells. What came from outside stays on one line of a terminal.
func (t table) row(cells ...any) {
	var texts []string
	for _, cell := range cells {
		if wide, ok := cell.([]string); ok {
			texts = append(texts, wide...)
		} else {
			texts = append(texts, fmt.Sprint(cell))
		}
	}
	for i, text := range texts {
		texts[i] = cmp.Or(line(text), "-")
	}
	fmt.Fprintln(t, strings.Join(texts, "\t"))
}

// line keeps text on one line of a terminal, which it cannot give orders to.
func line(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// field is a row of what there is to say under a title, if anything.
func (t table) field(title, text string) {
	if text != "" {
		t.row(title+":", text)
	}
}

// wide are cells of a wide table.
func (t table) wide(cells ...string) []string {
	if t.format != "wide" {
		return nil
	}
	return cells
}

// age says how long ago something was; a pause ends in the future.
func age(t time.Time) string {
	if d := time.Since(t); !t.IsZero() && d >= 0 {
		return duration.HumanDuration(d)
	}
	return "-"
}

// pause waits until a queue may be asked again: soon, unless the last time, which
// began at asked, was long. It may have been an outage, so that is bounded. The error
// is that ctx has ended.
func pause(ctx context.Context, asked time.Time) error {
	const soon, longest, share = 500 * time.Millisecond, 10 * time.Second, 10
	select {
	case <-time.After(min(longest, max(soon, share*time.Since(asked)))):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errUnread ends a command that watches when nobody reads what it prints. Who reads
// has seen enough, so it is no failure.
var errUnread = errors.New("nobody reads the output any more")

// whileRead returns a context that ends when nobody reads the output any more, as
// after head -n 1: what is quiet would not tell by an error for hours. Its goroutine
// ends with the reader, or with the process. Files always have a reader.
func whileRead(ctx context.Context, out io.Writer) context.Context {
	file, ok := out.(*os.File)
	if !ok {
		return ctx
	}
	ctx, cancel := context.WithCancelCause(ctx)
	polled := []unix.PollFd{{Fd: int32(file.Fd())}} // no events are asked for: errors and hang-ups are told anyway
	go func() {
		for err := error(unix.EINTR); err == unix.EINTR; _, err = unix.Poll(polled, -1) {
		}
		cancel(errUnread)
	}()
	return ctx
}
