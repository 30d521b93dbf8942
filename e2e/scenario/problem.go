package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Problem is one thing that is wrong with a scenario file.
type Problem struct {
	Path string
	Line int // 0 when it is about the file as a whole
	Text string
}

// Error returns the problem in the form that editors and terminals make a link of.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.Path, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.Path, p.Line, p.Text)
}

// problems collects what is wrong with one file. Every combination of a matrix
// meets the same mistakes again, so each is kept once.
type problems struct {
	path string
	seen map[Problem]bool
}

// add adds a problem with the field at a path, empty for the file. Keys of the file
// are part of a path, so it may hold anything.
func (p *problems) add(line int, at, text string) {
	const longest = 160 // characters; a path of honest names is far shorter
	if at = printable(at); len(at) > longest {
		at = strings.ToValidUTF8(at[:longest], "") + "…"
	}
	if at != "" {
		text = at + ": " + text
	}
	if p.seen == nil {
		p.seen = map[Problem]bool{}
	}
	p.seen[Problem{p.path, line, text}] = true
}

// quote makes a value from a file fit to be printed.
func quote(value string) string { return api.Excerpt(value) }

// printable escapes what could do something to a terminal.
func printable(text string) string {
	quoted := strconv.Quote(text)
	return strings.NewReplacer(`\"`, `"`, `\\`, `\`).Replace(quoted[1 : len(quoted)-1])
}

// err joins the problems in the order of the file; nil if there are none.
func (p *problems) err() error {
	var errs []error
	for _, problem := range slices.SortedFunc(maps.Keys(p.seen), func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	}) {
		errs = append(errs, &problem)
	}
	return errors.Join(errs...)
}
