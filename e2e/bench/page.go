package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
)

// printTable prints the table for a terminal.
func printTable(w io.Writer, lines []Line, short bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "row\tours\tpeer\tratio\tgoal\t\t\n")
	for _, l := range lines {
		theirs := l.Peer
		if short && l.Ours != nil && !l.Failed {
			l.Verdict = ""
		}
		if l.Theirs != nil {
			theirs = figure(l.Theirs) + " " + theirs
		}
		fmt.Fprintf(table, "%s\t%s %s\t%s\t%s\t%s\t%s\t\n", l.Name, figure(l.Ours), l.Unit(), theirs, figure(l.Ratio), l.Goal, l.Verdict)
	}
	if short {
		fmt.Fprintln(table, "The smallest form of each: it shows that they work, and its figures mean nothing.")
	}
	return table.Flush()
}

var (
	//go:embed page.tmpl
	pageText string
	form     = template.Must(template.New("page").Funcs(template.FuncMap{"figure": figure, "cell": strings.NewReplacer("|", `\|`, "\n", " ").Replace}).Parse(pageText))
)

// Page is what README.md says beside the table.
type Page struct {
	*Plan
	Date    string
	Machine []Fact
	Modules []Module
	Lines   []Line
}

// newPage finds out what can be known before anything is measured.
func newPage(ctx context.Context, plan *Plan) (p *Page, err error) {
	p = &Page{Plan: plan, Date: time.Now().UTC().Format(time.DateOnly)}
	if p.Machine, err = describeMachine(ctx); err == nil {
		p.Modules, err = plan.dependencies(ctx)
	}
	return p, err
}

// write writes the page and its pictures into a directory.
func (p *Page) write(dir string, results Results) (err error) {
	for _, picture := range p.Pictures {
		svg, failed := picture.draw(results)
		if failed == nil {
			failed = os.WriteFile(filepath.Join(dir, picture.File), svg, 0o644)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s is still that of another run: %w", picture.File, failed))
		}
	}
	var text bytes.Buffer
	if err := form.Execute(&text, p); err != nil {
		return err
	}
	return errors.Join(err, os.WriteFile(filepath.Join(dir, "README.md"), text.Bytes(), 0o644))
}
