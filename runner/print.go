package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Printing is how a command prints what it finds. Commands embed it.
type Printing struct {
	Output string `short:"o" enum:"${formats}" default:"table" help:"How to print: ${enum}."`
	Watch  bool   `short:"w" help:"${watch}; as JSON it is one line each."`

	before view // what was printed last
}

// view is what can be printed: as a document, or as rows for people.
type view interface{ rows(t table) }

// show prints what differs from what was printed last, though not all that was named may
// be known, and says whether nothing follows it.
func (p *Printing) show(out io.Writer, v view, unknown error) (last bool, err error) {
	if !reflect.DeepEqual(v, p.before) {
		err = p.print(out, v)
	}
	p.before = v
	err = errors.Join(err, unknown)
	return err != nil || !p.Watch, err
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
		if p.Watch {
			text = append([]byte("---\n"), text...)
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

// after is text behind what introduces it, or nothing.
func after(introduction, text string) string {
	if text == "" {
		return ""
	}
	return introduction + text
}
